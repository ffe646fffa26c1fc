// Draws an episode as a waterfall: a row is a thread, a bar a call, on the clock of tokens or of seconds.

const SPACE = "http://www.w3.org/2000/svg";
const ROW = 24, BAR = 14, AXIS = 22, MARGIN = 8;
const MOST_ROWS = 96;
const COLOURS = ["#007A5A", "#A8450A", "#8A3F77", "#2B6CB0", "#6B6100", "#5B4B9A"];
const INK = "#222222", GREY = "#5B6470", LIGHT = "#B8BEC6";

/** Colour of the thread in a row; the root has its own. */
export function threadColour(row) {
  return row === 0 ? "#00568A" : COLOURS[(row - 1) % COLOURS.length];
}

function draw(parent, tag, attributes, text) {
  const element = document.createElementNS(SPACE, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function ticks(end, most) {
  if (!(end > 0)) return [0];
  const rough = end / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * (1 - 1e-9));
  const count = Math.floor(end / step + 1e-9);
  return Array.from({ length: count + 1 }, (_, index) => Number((index * step).toPrecision(6)));
}

/** Replaces the picture in `place`; `axis` is "tokens" or "seconds", `end` the least end of the axis. */
export function drawWaterfall(place, episode, axis, name, end = 0) {
  const threads = episode.ordered().slice(0, MOST_ROWS);
  const rows = new Map(threads.map((thread, row) => [thread.name, row]));
  const width = Math.max(300, place.clientWidth - 4);
  const gutter = width < 520 ? 62 : 110;
  const now = episode.now();
  const span = (call) => axis === "tokens" ? [call.start, call.start + call.tokens] : [call.from, call.until ?? now];
  const calls = [...episode.calls.values()].filter((call) => rows.has(call.thread));
  const last = Math.max(end, 1e-9, ...calls.map((call) => span(call)[1]));
  const x = (value) => gutter + (width - gutter - MARGIN) * (value / last);
  const y = (call) => rows.get(call.thread) * ROW + 4;
  const height = Math.max(1, threads.length) * ROW + AXIS;
  const svg = document.createElementNS(SPACE, "svg");
  const told = `Waterfall of ${name} in ${axis}: ${threads.length} threads, ${episode.total()} tokens, ${episode.critical()} critical`;
  for (const [key, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told }))
    svg.setAttribute(key, String(value));
  for (const value of ticks(last, width < 520 ? 4 : 8)) {
    draw(svg, "path", { d: `M${x(value)} 0V${height - AXIS}`, stroke: LIGHT, "stroke-width": 0.6, "stroke-dasharray": "2 4" });
    draw(svg, "text", { x: x(value), y: height - 7, fill: GREY, "text-anchor": "middle" }, String(value));
  }
  draw(svg, "text", { x: MARGIN, y: height - 7, fill: GREY }, axis === "tokens" ? "tokens" : "s");
  const room = Math.floor((gutter - MARGIN) / 6.8);
  threads.forEach((thread, row) => {
    const label = row === 0 ? thread.role || "root" : `${thread.role || "waits"} ${thread.name.slice(5)}`;
    const short = label.length > room ? `${label.slice(0, room - 1)}…` : label;
    draw(svg, "text", { x: MARGIN, y: row * ROW + 15, fill: threadColour(row) }, short);
  });
  const path = episode.summary ? episode.criticalPath() : new Set();
  for (const call of calls)
    for (const before of call.after) {
      if (before.thread === call.thread || !rows.has(before.thread)) continue;
      const dark = path.has(call) && path.has(before);
      const d = `M${x(span(before)[1])} ${y(before) + BAR / 2}V${y(call) + BAR / 2}H${x(span(call)[0])}`;
      draw(svg, "path", { d, fill: "none", stroke: dark ? INK : LIGHT, "stroke-width": dark ? 1.4 : 1 });
    }
  for (const call of calls) drawCall(svg, call, rows.get(call.thread), x(span(call)[0]), x(span(call)[1]), y(call), path.has(call));
  place.replaceChildren(svg);
}

function drawCall(svg, call, row, left, right, y, critical) {
  const colour = threadColour(row);
  const width = Math.max(1.5, right - left);
  const ended = call.stop === "abort" || call.stop === "error";
  const looks = ended ? { fill: "#fff", stroke: colour, "stroke-dasharray": "3 2" } : { fill: colour };
  if (critical && !ended) Object.assign(looks, { stroke: INK, "stroke-width": 2 });
  if (!call.stop) Object.assign(looks, { "data-running": "true" });
  const group = draw(svg, "g", {});
  draw(group, "title", {}, `call ${call.number}, ${call.role}: ${call.tokens} tokens, ${call.stop || "running"}`);
  draw(group, "rect", { x: left, y, width, height: BAR, rx: 2, ...looks });
  const text = String(call.tokens);
  if (width > 7 * text.length + 6) draw(group, "text", { x: left + 3, y: y + 11, fill: ended ? colour : "#fff" }, text);
}
