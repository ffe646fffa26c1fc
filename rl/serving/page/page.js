// The page: a form that asks the server's own API, and one or two episodes drawn while they run.

import { Episode } from "./episode.js";
import { ApiError, chunks, ensureGood, headers, printable } from "./stream.js";
import { drawWaterfall, threadColour } from "./waterfall.js";

const element = (id) => document.getElementById(id);
const form = element("ask"), results = element("results"), problem = element("problem");
const DRAW_MS = 80;
let sides = [];
let stopping = null;

/** One episode on the page. */
class Side {
  constructor(model) {
    this.model = model;
    this.episode = new Episode();
    this.root = element("side").content.firstElementChild.cloneNode(true);
    this.part = (name) => this.root.querySelector(name);
    this.part("h2").textContent = model;
    this.part(".picture").setAttribute("aria-label", `Waterfall of ${model}`);
    this.shown = new Map();
    this.state = "asking";
    results.append(this.root);
    this.draw();
  }

  async run(body, key, signal) {
    try {
      for await (const chunk of chunks({ ...body, model: this.model }, key, signal)) {
        const choice = chunk.choices[0];
        if (choice?.delta?.content) this.episode.answer += choice.delta.content;
        if (choice?.braid) this.episode.take(choice.braid);
        this.state = "thinking";
        schedule();
      }
      this.state = "done";
    } catch (error) {
      this.state = signal.aborted ? "stopped" : "failed";
      if (!signal.aborted) this.fail(error);
    }
    this.draw();
  }

  fail(error) {
    this.failure = error instanceof ApiError ? error.message : "The server cannot be reached.";
    if (error.status === 401) element("key-field").hidden = false;
  }

  draw() {
    const { episode } = this;
    const status = this.part(".status");
    const words = this.words();
    if (status.textContent !== words) status.textContent = words;
    status.classList.toggle("failed", this.state === "failed");
    const axis = form.elements.axis.value;
    drawWaterfall(this.part(".picture"), episode, axis, this.model, sharedEnd(axis));
    this.costs();
    this.part(".answer").textContent = printable(episode.answer) || (this.state === "done" ? "none was given" : "");
    this.drawThreads();
  }

  words() {
    if (this.state === "failed") return printable(this.failure);
    if (this.state === "stopped") return "Stopped. What was sampled has been paid for.";
    if (this.state === "asking") return "Waiting for the server.";
    const { episode } = this;
    if (this.state !== "done") return `Thinking: ${counted(episode.threads.size, "thread")}, ${counted(episode.running(), "call")} running.`;
    const { outcome, limit } = episode.summary;
    return `Done: ${outcome.replaceAll("_", " ")}${limit ? ` at the limit ${limit.replaceAll("_", " ")}` : ""}.`;
  }

  costs() {
    const { episode } = this;
    const end = episode.summary;
    const rows = {
      "all tokens": episode.total(),
      "critical tokens": end ? end.critical_tokens : episode.critical(),
      "cancelled tokens": end ? end.cancelled_tokens : "",
      "seconds": (this.state === "thinking" || end ? episode.now() : 0).toFixed(2),
      "threads opened": Math.max(0, episode.threads.size - 1),
      "concurrency": end ? end.concurrency.toFixed(2) : "",
      "violations": end ? violations(end.violations) : "",
      "seed": end ? printable(String(end.seed)) : "",
    };
    const list = this.part(".costs");
    list.replaceChildren(...Object.entries(rows).filter(([, value]) => value !== "").map(([name, value]) => {
      const row = document.createElement("div"), term = document.createElement("dt"), data = document.createElement("dd");
      term.textContent = name;
      data.textContent = String(value);
      row.append(term, data);
      return row;
    }));
  }

  drawThreads() {
    this.episode.ordered().forEach((thread, row) => {
      let shown = this.shown.get(thread.name);
      if (!shown) {
        shown = { box: document.createElement("details"), head: document.createElement("summary"), said: document.createElement("p") };
        shown.box.className = "thread";
        shown.box.open = row === 0;
        shown.said.className = "said";
        shown.box.append(shown.head, shown.said);
        this.shown.set(thread.name, shown);
      }
      const list = this.part(".threads");
      if (list.children[row] !== shown.box) list.insertBefore(shown.box, list.children[row] ?? null);
      shown.box.style.borderColor = threadColour(row);
      const state = thread.outcome ? thread.outcome.replaceAll("_", " ") : "running";
      const limit = thread.limit ? `, limit ${thread.limit.replaceAll("_", " ")}` : "";
      shown.head.textContent = `${thread.name}${thread.role ? ` (${printable(thread.role)})` : ""}: ${thread.tokens} tokens, ${state}${limit}`;
      const text = printable(thread.text.trim());
      if (shown.said.textContent !== text) shown.said.textContent = text;
    });
  }
}

function counted(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

function violations(found) {
  if (Array.isArray(found)) return found.length;
  return typeof found === "object" && found ? Object.values(found).reduce((sum, count) => sum + count, 0) : found;
}

/** Both pictures have one axis, so that their lengths can be compared. */
function sharedEnd(axis) {
  const ends = sides.map(({ episode }) => (axis === "tokens" ? episode.critical() : episode.threads.size ? episode.now() : 0));
  return Math.max(0, ...ends);
}

let scheduled = false;
function schedule() {
  if (scheduled) return;
  scheduled = true;
  setTimeout(() => {
    scheduled = false;
    sides.forEach((side) => side.draw());
  }, DRAW_MS);
}

function asked() {
  const number = (name) => (form.elements[name].value === "" ? undefined : Number(form.elements[name].value));
  const budgets = {};
  for (const name of ["total_tokens", "critical_tokens", "width", "seconds"])
    if (number(name) !== undefined) budgets[name] = number(name);
  return {
    messages: [{ role: "user", content: problem.value }],
    seed: number("seed") ?? crypto.getRandomValues(new Uint32Array(1))[0],
    temperature: number("temperature") ?? 1,
    stream: true,
    braid: { events: true, budgets },
  };
}

async function think() {
  if (stopping) return;
  element("error").textContent = "";
  const models = [form.elements.first.value, form.elements.second.value].filter(Boolean);
  const body = asked();
  stopping = new AbortController();
  element("think").disabled = true;
  element("stop").disabled = false;
  results.replaceChildren();
  results.classList.toggle("two", models.length > 1);
  sides = [];
  for (const model of models) sides.push(new Side(model));
  const clock = setInterval(schedule, 250);
  await Promise.all(sides.map((side) => side.run(body, form.elements.key.value, stopping.signal)));
  clearInterval(clock);
  sides.forEach((side) => side.draw());
  stopping = null;
  element("think").disabled = false;
  element("stop").disabled = true;
}

async function loadModels() {
  try {
    const reply = await fetch("/v1/models", { headers: headers(form.elements.key.value) });
    await ensureGood(reply);
    const { data } = await reply.json();
    const chosen = form.elements.first.value;
    form.elements.first.replaceChildren(...data.map(option));
    form.elements.second.replaceChildren(new Option("nothing", ""), ...data.map(option));
    if (chosen) form.elements.first.value = chosen;
    element("key-field").hidden = true;
    element("error").textContent = "";
  } catch (error) {
    if (error.status === 401) element("key-field").hidden = false;
    element("error").textContent = error instanceof ApiError ? printable(error.message) : "The server cannot be reached.";
  }
}

function option(model) {
  const own = model.braid?.protocol ?? "";
  return new Option(model.id.includes(":") ? model.id.split(":").slice(1).join(":") : `${own} (its own)`, model.id);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  think();
});
form.addEventListener("change", (event) => {
  if (event.target.name === "axis") sides.forEach((side) => side.draw());
  if (event.target.name === "key") loadModels();
});
problem.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stopping?.abort();
});
element("stop").addEventListener("click", () => stopping?.abort());
window.addEventListener("resize", schedule);
loadModels();
