// The timeline of one contact at a time.
import {
  CHART_LEFT, KINDS, LANGUAGE, about, byId, drawBars, element, hideNotice, listed, number, plural, setState, showNotice,
} from "./page.js";

const ROWS = 200; // rows on the page until more are asked for
const DAY = 86_400_000;
const dayOf = new Intl.DateTimeFormat(LANGUAGE, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const shortDay = new Intl.DateTimeFormat(LANGUAGE, { day: "numeric", month: "short", year: "numeric" });
const month = new Intl.DateTimeFormat(LANGUAGE, { month: "short", year: "numeric" });
const clock = new Intl.DateTimeFormat(LANGUAGE, { hour: "2-digit", minute: "2-digit" });

let source = null; // of the running search
let events = []; // newest first, as they arrive
let drawn = 0; // how many of `events` were considered for rows
let rows = 0; // how many rows are on the page
let limit = ROWS;
let bounds = { from: null, to: null };
let frame = 0; // the next one to draw in
const hidden = new Set(); // kinds that are filtered out

// --- Searching ---

// Midnight in the reader's time zone, since the server only knows instants. The range ends when its last day does.
function instant(value, days) {
  const [year, monthNumber, day] = value.split("-").map(Number);
  return new Date(year, monthNumber - 1, day + days);
}

function search() {
  stop();
  clearProblem();
  const form = byId("search");
  for (const [id, which] of [["from", "first"], ["to", "last"]]) {
    if (form[id].validity.badInput) return showProblem(`The ${which} day is incomplete or not a calendar date.`, id);
  }
  const query = new URLSearchParams({ contact: form.contact.value, by: form.by.value });
  bounds = { from: null, to: null };
  if (form.from.value) query.set("from", (bounds.from = instant(form.from.value, 0)).toISOString());
  if (form.to.value) query.set("to", (bounds.to = instant(form.to.value, 1)).toISOString());
  remember(form);

  events = [];
  limit = ROWS;
  resetRows();
  byId("who").textContent = form.contact.value.trim();
  byId("result").hidden = false;
  byId("stop").hidden = false;
  show("Asking NP6 …", true);
  draw();

  const own = (source = new EventSource(`/events?${query}`));
  own.addEventListener("events", (message) => {
    hideNotice();
    const more = JSON.parse(message.data);
    if (!events.length) show("Events are arriving …", true);
    for (const event of more) events.push(event);
    draw();
  });
  own.addEventListener("notice", (message) => {
    const notice = JSON.parse(message.data);
    if (notice) showNotice(notice.words, notice.seconds);
    else hideNotice();
  });
  own.addEventListener("end", (message) => {
    const { events: count, most } = JSON.parse(message.data);
    finish(most ? `The latest ${plural(count, "event")}. There may be more: choose dates.` : "Complete.");
  });
  own.addEventListener("problem", (message) => {
    const { words, field } = JSON.parse(message.data);
    fail(words, field);
  });
  // EventSource would reconnect by itself, and every event would arrive twice.
  own.onerror = () => fail("The connection to this page's server was lost. Search again.", null);
}

function stop() {
  source?.close();
  source = null;
  hideNotice();
  byId("stop").hidden = true;
}

function finish(state) {
  stop();
  show(state, false);
  draw();
}

function fail(words, field) {
  finish(events.length ? "Not complete." : "");
  if (!events.length) byId("result").hidden = true;
  showProblem(events.length ? `${words} Not all events are shown.` : words, field);
}

function show(text, live) {
  setState(text, live);
  byId("result").setAttribute("aria-busy", String(live));
}

function showProblem(words, field) {
  byId("problem").textContent = words;
  const input = field && byId(field);
  if (input) {
    input.setAttribute("aria-invalid", "true");
    input.focus();
  }
}

function clearProblem() {
  byId("problem").textContent = "";
  for (const input of document.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

// What comes after "#" stays in the browser: a reload searches again, and no server log contains the address.
function remember(form) {
  const kept = new URLSearchParams();
  for (const name of ["contact", "by", "from", "to"]) if (form[name].value) kept.set(name, form[name].value);
  history.replaceState(null, "", `#${kept}`);
}

function recall() {
  const form = byId("search");
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    if (["contact", "by", "from", "to"].includes(name)) form[name].value = value;
  }
  if (!form.by.value) form.by.value = "auto";
  if (form.contact.value) search();
  else form.contact.focus();
}

// --- Drawing ---

// However fast events arrive, the page is drawn at most once a frame.
function draw() {
  if (!frame) frame = requestAnimationFrame(redraw);
}

function redraw() {
  frame = 0;
  const counts = Object.fromEntries(KINDS.map(([kind]) => [kind, 0]));
  for (const event of events) counts[event.kind] += 1;
  const shown = events.filter((event) => !hidden.has(event.kind));
  for (const [kind] of KINDS) byId(`count-${kind}`).textContent = number.format(counts[kind]);
  byId("count").textContent = number.format(shown.length);
  byId("count-words").textContent = shown.length === events.length
    ? (events.length === 1 ? "event" : "events") : `of ${plural(events.length, "event")}`;
  drawChart(shown);
  addRows();
  const left = shown.length - rows;
  byId("more").hidden = left <= 0;
  byId("more").textContent = `Show ${number.format(Math.min(left, ROWS))} more of ${number.format(left)}`;
  byId("nothing").hidden = shown.length > 0 || source !== null;
  byId("nothing").textContent = events.length ? "No events of the chosen kinds." : "No events in these dates.";
}

function resetRows() {
  byId("events").replaceChildren();
  drawn = rows = 0;
}

function addRows() {
  const place = byId("events");
  for (; drawn < events.length && rows < limit; drawn += 1) {
    const event = events[drawn];
    if (hidden.has(event.kind)) continue;
    const day = dayOf.format(event.at);
    let list = place.lastElementChild?.querySelector("ol");
    if (list?.dataset.day !== day) {
      const block = element("div", "day");
      list = element("ol");
      list.dataset.day = day;
      block.append(element("h3", "", day), list);
      place.append(block);
    }
    list.append(row(event));
    rows += 1;
  }
}

function row(event) {
  const item = element("li", event.kind);
  const time = element("time", "", clock.format(event.at));
  time.dateTime = new Date(event.at).toISOString();
  const body = element("div");
  const title = element("div", "title", event.title);
  title.dir = "auto";
  const facts = element("dl");
  for (const [name, value] of event.facts) {
    const fact = element("div");
    const text = element("dd", "", value);
    text.dir = "auto";
    fact.append(element("dt", "", name), text);
    facts.append(fact);
  }
  const all = element("button", "all", "All data");
  all.type = "button";
  all.setAttribute("aria-expanded", "false");
  all.addEventListener("click", () => {
    const open = all.getAttribute("aria-expanded") === "false";
    all.setAttribute("aria-expanded", String(open));
    if (open) item.append(element("pre", "", event.data));
    else item.querySelector("pre").remove();
  });
  body.append(title, facts);
  item.append(time, body, all);
  return item;
}

// The start of the day in the reader's time zone. Days are counted by it, since some have 23 hours and some 25.
function midnight(at) {
  return new Date(at).setHours(0, 0, 0, 0);
}

// Bars of stacked kinds over equal spans of whole days, each at least 14 px wide.
function drawChart(shown) {
  byId("figure").hidden = events.length === 0;
  if (!events.length) return;
  const room = byId("chart").clientWidth - CHART_LEFT;
  const first = bounds.from?.getTime() ?? events[events.length - 1].at;
  const last = Math.max((bounds.to?.getTime() ?? events[0].at + 1) - 1, first);
  const begin = midnight(first);
  const dayNumber = (at) => Math.round((midnight(at) - begin) / DAY);
  const noon = (day) => begin + (day + 0.5) * DAY; // within that day, even if it lacks an hour
  const days = dayNumber(last) + 1;
  const span = Math.ceil(days / Math.max(8, Math.floor(room / 14)));
  const bins = Array.from({ length: Math.ceil(days / span) }, () => ({ total: 0 }));
  for (const event of shown) {
    const bin = bins[Math.min(bins.length - 1, Math.max(0, Math.floor(dayNumber(event.at) / span)))];
    bin[event.kind] = (bin[event.kind] ?? 0) + 1;
    bin.total += 1;
  }
  const labels = Math.min(bins.length, Math.max(2, Math.floor(room / 130)));
  const long = days > 31 * labels; // otherwise a month would be shown twice
  const when = (index) => {
    const from = shortDay.format(noon(index * span));
    return span > 1 ? `${from} to ${shortDay.format(noon((index + 1) * span - 1))}` : from;
  };
  drawBars(bins, when, Array.from({ length: labels }, (_, index) => {
    const place = Math.floor((index * bins.length) / labels);
    return [place, (long ? month : shortDay).format(noon(place * span))];
  }));
  byId("caption").textContent = `${shortDay.format(first)} to ${shortDay.format(last)}, ${
    span === 1 ? "one bar a day" : `one bar for ${plural(span, "day")}`}`;
  const totals = Object.fromEntries(KINDS.map(([kind]) => [kind, shown.filter((event) => event.kind === kind).length]));
  byId("chart").setAttribute("aria-label", `Events over time: ${listed(totals)}`);
}

// --- Set-up ---

for (const [kind, name] of KINDS) {
  const label = element("label", kind);
  const box = element("input");
  box.type = "checkbox";
  box.checked = true;
  box.name = kind;
  box.addEventListener("change", () => {
    if (box.checked) hidden.delete(kind);
    else hidden.add(kind);
    limit = ROWS;
    resetRows();
    draw();
  });
  const count = element("b", "", "0");
  count.id = `count-${kind}`;
  label.append(box, element("span", "dot"), element("span", "", name), count);
  byId("kinds").append(label);
}

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
byId("stop").addEventListener("click", () => {
  finish("Stopped: there may be more.");
  byId("go").focus();
});
byId("more").addEventListener("click", () => {
  limit += ROWS;
  draw();
});
window.addEventListener("resize", draw);
window.addEventListener("pagehide", () => {
  if (source) finish("Stopped: there may be more.");
});

about().then(({ samples = [] }) => {
  byId("samples").hidden = samples.length === 0;
  for (const { contact, label } of samples) {
    const button = element("button", "", label);
    button.type = "button";
    button.addEventListener("click", () => {
      byId("contact").value = contact;
      byId("by").value = "auto";
      search();
    });
    byId("samples").append(button);
  }
});
recall();
