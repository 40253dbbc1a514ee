// What both pages use. Strangers write the texts of events: they are set as textContent, never as HTML.
import { LANGUAGE } from "./zones.js";

export const KINDS = [
  ["sent", "Sent"], ["opened", "Opened"], ["clicked", "Clicked"],
  ["bounced", "Bounced"], ["stopped", "Stopped"], ["other", "Other"],
];
export const byId = (id) => document.getElementById(id);
export const number = new Intl.NumberFormat(LANGUAGE);
const compact = new Intl.NumberFormat(LANGUAGE, { notation: "compact" });

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function plural(count, word) {
  return `${number.format(count)} ${word}${count === 1 ? "" : "s"}`;
}

export function setState(text, live) {
  byId("state").textContent = text;
  byId("state").classList.toggle("live", live);
}

// --- Notices ---

let timer = 0; // of the countdown

// Screen readers announce the words, and not every second of the countdown.
export function showNotice(words, seconds) {
  clearInterval(timer);
  const until = performance.now() + seconds * 1000;
  const tick = () => {
    const left = Math.ceil((until - performance.now()) / 1000);
    byId("countdown").textContent = left > 0 ? `in ${left} s …` : "now …";
  };
  if (byId("notice-words").textContent !== words) byId("notice-words").textContent = words;
  byId("notice").hidden = false;
  tick();
  timer = setInterval(tick, 250);
}

export function hideNotice() {
  clearInterval(timer);
  byId("notice").hidden = true;
  byId("notice-words").textContent = "";
}

// --- The chart ---

function svg(name, attributes, className) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (className) made.setAttribute("class", className);
  return made;
}

export const CHART_LEFT = 28; // px for the scale

// Bars of stacked kinds. `bins` have a `total` and a count for each kind; `when(index)` names a bin, and `labels` are
// the [index, text] of those with a text below them. With `chosen(index)` each bar is a button, pressed or not.
export function drawBars(bins, when, labels, chosen = null) {
  const chart = byId("chart");
  const width = chart.clientWidth;
  const height = chart.clientHeight;
  const floor = height - 22;
  const top = Math.max(1, ...bins.map((bin) => bin.total));
  const step = (width - CHART_LEFT) / Math.max(bins.length, 8);
  const gap = Math.min(2, step / 4);
  const scale = (floor - 8) / top;
  const parts = [];
  for (const value of top > 1 ? [top, Math.round(top / 2)] : [top]) {
    const y = floor - value * scale;
    parts.push(svg("line", { x1: CHART_LEFT, x2: width, y1: y, y2: y }, "grid"));
    const label = svg("text", { x: CHART_LEFT - 6, y: y + 4, "text-anchor": "end" });
    label.textContent = compact.format(value);
    parts.push(label);
  }
  bins.forEach((bin, index) => {
    if (!bin.total) return;
    const group = svg("g", {}, "bin");
    const title = svg("title", {});
    title.textContent = `${when(index)}: ${listed(bin)}`;
    group.append(title);
    if (chosen) {
      const button = { role: "button", tabindex: -1, "aria-label": title.textContent, "aria-pressed": chosen(index) };
      for (const [key, value] of Object.entries(button)) group.setAttribute(key, value);
      group.dataset.index = index;
      group.append(svg("rect", { x: CHART_LEFT + index * step, y: 0, width: step, height: floor }, "target"));
    }
    let y = floor;
    for (const [kind] of KINDS) {
      if (!bin[kind]) continue;
      y -= bin[kind] * scale;
      group.append(svg("rect", {
        x: CHART_LEFT + index * step + gap / 2, y, width: Math.max(1, Math.min(step - gap, 28)), height: bin[kind] * scale,
      }, `part ${kind}`));
    }
    parts.push(group);
  });
  parts.push(svg("line", { x1: CHART_LEFT, x2: width, y1: floor, y2: floor }, "base"));
  for (const [index, text] of labels) {
    const label = svg("text", { x: CHART_LEFT + index * step, y: height - 4 });
    label.textContent = text;
    parts.push(label);
  }
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  chart.replaceChildren(...parts);
}

// The counts by kind, in words.
export function listed(counts) {
  return KINDS.filter(([kind]) => counts[kind]).map(([kind, name]) => `${name} ${counts[kind]}`).join(", ") || "none";
}

// --- What the page shows ---

export async function about() {
  const told = await (await fetch("/about")).json();
  byId("demo").hidden = !told.demo;
  return told;
}
