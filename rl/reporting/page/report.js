"use strict";
// Comfort only: the page is whole without it. Reads values under the pointer, and shows one axis of a waterfall at a time.
for (const figure of document.querySelectorAll("figure.chart")) {
  const lines = JSON.parse(figure.dataset.lines);
  const svg = figure.querySelector("svg.braid-chart");
  const reading = figure.querySelector(".reading");
  const [low, high, left, right] = svg.dataset.x.split(" ").map(Number);
  const steps = [...new Set(lines.flatMap((line) => line.points.map((point) => point[0])))].sort((a, b) => a - b);
  let at = steps.length - 1;
  const show = (index) => {
    at = Math.max(0, Math.min(steps.length - 1, index));
    const values = lines.flatMap((line) => {
      const point = line.points.find((each) => each[0] === steps[at]);
      return point ? [`${line.label} ${Number(point[1].toPrecision(4))}`] : [];
    });
    reading.hidden = false;
    reading.textContent = `step ${steps[at]}: ${values.join(", ")}`;
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const across = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const step = low + ((across - left) / (right - left)) * (high - low);
    let best = 0;
    steps.forEach((each, index) => { if (Math.abs(each - step) < Math.abs(steps[best] - step)) best = index; });
    show(best);
  });
  svg.setAttribute("tabindex", "0");
  svg.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (move) { show(at + move); event.preventDefault(); }
  });
}
for (const axes of document.querySelectorAll(".axes")) {
  const views = [...axes.querySelectorAll(".axis")];
  const group = document.createElement("div");
  group.className = "switch";
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Axis of the waterfall");
  const buttons = views.map((view) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = view.dataset.axis;
    view.querySelector("h5").hidden = true;
    group.append(button);
    return button;
  });
  const choose = (index) => {
    views.forEach((view, other) => { view.hidden = other !== index; });
    buttons.forEach((button, other) => button.setAttribute("aria-pressed", String(other === index)));
  };
  buttons.forEach((button, index) => button.addEventListener("click", () => choose(index)));
  axes.prepend(group);
  choose(0);
}
