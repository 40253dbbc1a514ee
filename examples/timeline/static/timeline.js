// The timeline of one contact at a time.
import {
  CHART_LEFT, KINDS, about, byId, drawBars, element, hideNotice, listed, number, plural, setState, showNotice,
} from "./page.js";
import { sayReach, showReach } from "./reach.js";
import { FIELDS, NONE, isSame, link, push, recall, replace } from "./searches.js";
import { dayFormat, dayOf, fillZones, keep, zone as zoneOf } from "./zones.js";

const ROWS = 200; // rows on the page until more are asked for
const ROBOTS = "robots"; // is filtered like a kind
const UNKNOWN = "Some opens and clicks below may be by robots: NP6's list of hits, which leaves robots out, could not be read.";
const shortDay = dayFormat({ day: "numeric", month: "short", year: "numeric" });
const longDay = dayFormat({ weekday: "long", day: "numeric", month: "long", year: "numeric" });
const month = dayFormat({ month: "short", year: "numeric" });

let source = null; // of the running search
let shown = NONE; // the search on the page, with its filters
let events = []; // newest first, as they arrive
let answers = null; // whether the contact can be reached
let robots = null; // how many events are theirs, null if that is not known
let drawn = 0; // how many of `events` were considered for rows
let rows = 0; // how many rows are on the page
let limit = ROWS;
let frame = 0; // the next one to draw in
let span = 1; // days of a bar
let firstDay = 0; // of the first bar
let current = null; // the bar that Tab goes to
let zone, clock, exact;

// --- Searching ---

function search(next) {
  stop();
  clearProblem();
  shown = next;
  const query = new URLSearchParams({ contact: next.contact, by: next.by });
  // The server only knows instants. The range ends when its last day does.
  if (next.from) query.set("from", new Date(zone.start(dayOf(next.from))).toISOString());
  if (next.to) query.set("to", new Date(zone.start(dayOf(next.to) + 1)).toISOString());

  events = [];
  answers = robots = current = null;
  resetRows();
  showFilters();
  byId("who").textContent = next.contact.trim();
  byId("result").hidden = false;
  byId("stop").hidden = false;
  byId("link").hidden = !navigator.clipboard;
  byId("link").textContent = "Copy link";
  byId("robots-note").hidden = true;
  byId("all-dates").hidden = true;
  show("Asking NP6 …", true);
  sayReach("Reading the events …");
  fold(true);
  draw();

  const own = (source = new EventSource(`/events?${query}`));
  const on = (name, handle) => own.addEventListener(name, (message) => handle(JSON.parse(message.data)));
  on("events", (more) => {
    hideNotice();
    if (!events.length) show("Events are arriving …", true);
    for (const event of more) events.push(event);
    draw();
  });
  on("notice", (notice) => {
    if (notice) showNotice(notice.words, notice.seconds);
    else hideNotice();
  });
  on("robots", ({ known, places }) => {
    robots = known ? places.length : null;
    for (const place of places) markRobot(events[place]);
    noteRobots();
  });
  on("reach", (given) => {
    answers = given;
    showAnswers();
  });
  on("end", ({ events: count, most }) => {
    finish(most ? `The latest ${plural(count, "event")}. There may be more: choose dates.` : "Complete.");
  });
  on("problem", ({ words, field }) => fail(words, field));
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
  if (!answers) sayReach("Not known: not all events were read.");
  draw();
}

function fail(words, field) {
  finish(events.length ? "Not complete." : "");
  if (!events.length) {
    byId("result").hidden = true;
    fold(false);
  }
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

// --- The form and the history ---

function submit() {
  const form = byId("search");
  for (const [id, which] of [["from", "first"], ["to", "last"]]) {
    if (form[id].validity.badInput) {
      stop();
      clearProblem();
      return showProblem(`The ${which} day is incomplete or not a calendar date.`, id);
    }
  }
  const next = { ...NONE, hidden: shown.hidden };
  for (const name of FIELDS) next[name] = form[name].value;
  if (isSame(next, shown)) replace(next);
  else if (next.contact.trim()) push(next);
  search(next);
}

// Show what this entry of the history holds: after Back, Forward, a reload, or a link that was opened.
function restore() {
  const { zone: named, ...next } = recall();
  if (named) useZone(named);
  const form = byId("search");
  for (const name of FIELDS) form[name].value = next[name];
  if (!form.by.value) form.by.value = next.by = "auto";
  fit();
  if (!next.contact.trim()) clear();
  else if (isSame(next, shown) && !byId("result").hidden) filter(next, replace);
  else search(next);
}

function clear() {
  stop();
  clearProblem();
  shown = NONE;
  byId("result").hidden = true;
  byId("link").hidden = true;
  fold(false);
  byId("contact").focus();
}

// On a phone the form makes room for what was found.
function fold(folded) {
  const form = byId("search");
  const within = form.contains(document.activeElement);
  form.classList.toggle("folded", folded);
  byId("unfold").setAttribute("aria-expanded", String(!folded));
  if (folded && within && !form.checkVisibility()) byId("who").focus({ preventScroll: true });
  if (!folded) fit();
}

// A long address has the lines that it needs.
function fit() {
  const field = byId("contact");
  if (!field.checkVisibility()) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
}

// --- Filters ---

function isHidden(event) {
  if (shown.hidden.includes(event.kind) || (event.robot && shown.hidden.includes(ROBOTS))) return true;
  if (!shown.days) return false;
  const day = zone.day(event.at);
  return day < shown.days.first || day > shown.days.last;
}

// Filter what is on the page by `next`; `remember` is `push` or `replace`.
function filter(next, remember) {
  shown = next;
  remember(next);
  resetRows();
  showFilters();
  draw();
  const count = events.filter((event) => !isHidden(event)).length;
  byId("spoken").textContent = `${number.format(count)} of ${plural(events.length, "event")} shown`;
}

function only(kind) {
  const hidden = onlyKind() === kind ? [] : KINDS.map(([each]) => each).filter((each) => each !== kind);
  filter({ ...shown, hidden }, push);
  (byId("chips").querySelector("button") ?? byId("who")).focus();
}

// The kind that is shown alone, if any.
function onlyKind() {
  const left = KINDS.filter(([kind]) => !shown.hidden.includes(kind));
  return left.length === 1 ? left[0][0] : null;
}

function pick(index) {
  const days = { first: firstDay + index * span, last: firstDay + (index + 1) * span - 1 };
  current = index;
  filter({ ...shown, days: isChosen(index) ? null : days }, push);
}

function isChosen(index) {
  const { days } = shown;
  return days !== null && days.first < firstDay + (index + 1) * span && days.last >= firstDay + index * span;
}

function showFilters() {
  for (const box of byId("kinds").querySelectorAll("input")) box.checked = !shown.hidden.includes(box.name);
  const kind = onlyKind();
  const chips = [];
  if (kind) chips.push([`Only ${KINDS.find(([each]) => each === kind)[1]}`, { hidden: [] }]);
  if (shown.days) chips.push([range(shown.days.first, shown.days.last), { days: null }]);
  byId("chips").replaceChildren(...chips.map(([text, change]) => {
    const chip = element("button", "chip");
    const cross = element("span", "", "✕");
    cross.ariaHidden = "true";
    chip.type = "button";
    chip.ariaLabel = `${text}: remove this filter`;
    chip.append(element("span", "", text), cross);
    chip.addEventListener("click", () => {
      filter({ ...shown, ...change }, push);
      (byId("chips").querySelector("button") ?? byId("who")).focus();
    });
    return chip;
  }));
  byId("chips").hidden = chips.length === 0;
}

function range(first, last) {
  return first === last ? shortDay(first) : `${shortDay(first)} to ${shortDay(last)}`;
}

// --- Robots ---

function markRobot(event) {
  event.robot = true;
  event.row?.querySelector(".head").append(element("span", "robot", "by a robot"));
}

function noteRobots() {
  const hits = events.some((event) => event.kind === "opened" || event.kind === "clicked");
  byId("robots-note").hidden = !hits;
  byId("robots-note").textContent = robots === null ? UNKNOWN : robots === 0 ? "None of the opens and clicks is by a robot that NP6 knows."
    : `Opens and clicks by robots (privacy proxies and scanners of mail) are left out here, as in NP6's lists of hits. ${
      robots === 1 ? "1 of them is" : `${number.format(robots)} of them are`} in the list below, which has all events.`;
  if (robots && shown.hidden.includes(ROBOTS)) resetRows();
  draw();
}

function showAnswers() {
  if (answers) showReach(answers, zone, robots !== null);
  byId("all-dates").hidden = !(answers && (shown.from || shown.to));
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
  for (const [kind] of KINDS) byId(`count-${kind}`).textContent = number.format(counts[kind]);
  byId(`count-${ROBOTS}`).textContent = number.format(robots ?? 0);
  byId(`label-${ROBOTS}`).hidden = !robots;
  const left = events.filter((event) => !isHidden(event)).length;
  byId("count").textContent = number.format(left);
  byId("count-words").textContent = left === events.length
    ? (events.length === 1 ? "event" : "events") : `of ${plural(events.length, "event")}`;
  drawChart();
  addRows();
  const more = left - rows;
  byId("more").hidden = more <= 0;
  byId("more").textContent = `Show ${number.format(Math.min(more, ROWS))} more of ${number.format(more)}`;
  byId("nothing").hidden = left > 0 || source !== null;
  byId("nothing").textContent = !events.length ? "No events in these dates."
    : shown.days ? "No events of the chosen kinds on these days." : "No events of the chosen kinds.";
}

function resetRows() {
  byId("events").replaceChildren();
  for (const event of events) event.row = null;
  drawn = rows = 0;
  limit = ROWS;
}

function addRows() {
  const place = byId("events");
  for (; drawn < events.length && rows < limit; drawn += 1) {
    const event = events[drawn];
    if (isHidden(event)) continue;
    const day = String(zone.day(event.at));
    let list = place.lastElementChild?.querySelector("ol");
    if (list?.dataset.day !== day) {
      const block = element("div", "day");
      list = element("ol");
      list.dataset.day = day;
      block.append(element("h3", "", longDay(Number(day))), list);
      place.append(block);
    }
    list.append((event.row = row(event)));
    if (event.robot) markRobot(event);
    rows += 1;
  }
}

function row(event) {
  const item = element("li", event.kind);
  const time = element("time", "", clock(event.at));
  time.dateTime = new Date(event.at).toISOString();
  time.title = exact(event.at);
  const body = element("div");
  const head = element("div", "head");
  const title = element("div", "title", event.title);
  title.dir = "auto";
  const name = KINDS.find(([kind]) => kind === event.kind)[1];
  const kind = element("button", "only", name);
  kind.type = "button";
  kind.title = onlyKind() === event.kind ? "Show all kinds" : `Only this kind: ${name}`;
  kind.ariaLabel = kind.title;
  kind.ariaPressed = String(onlyKind() === event.kind);
  kind.addEventListener("click", () => only(event.kind));
  head.append(title, kind);
  const facts = element("dl");
  for (const [key, value] of event.facts) {
    const fact = element("div");
    const text = element("dd", "", value);
    text.dir = "auto";
    fact.append(element("dt", "", key), text);
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
  body.append(head, facts);
  item.append(time, body, all);
  return item;
}

// Bars of stacked kinds over equal spans of whole days, each at least 14 px wide. All days stay there when some are
// chosen.
function drawChart() {
  byId("figure").hidden = events.length === 0;
  if (!events.length) return;
  const room = byId("chart").clientWidth - CHART_LEFT;
  firstDay = shown.from ? dayOf(shown.from) : zone.day(events[events.length - 1].at);
  const lastDay = Math.max(shown.to ? dayOf(shown.to) : zone.day(events[0].at), firstDay);
  const days = lastDay - firstDay + 1;
  span = Math.ceil(days / Math.max(8, Math.floor(room / 14)));
  const bins = Array.from({ length: Math.ceil(days / span) }, () => ({ total: 0 }));
  for (const event of events) {
    if (shown.hidden.includes(event.kind) || (event.robot && shown.hidden.includes(ROBOTS))) continue;
    const bin = bins[Math.min(bins.length - 1, Math.max(0, Math.floor((zone.day(event.at) - firstDay) / span)))];
    bin[event.kind] = (bin[event.kind] ?? 0) + 1;
    bin.total += 1;
  }
  const labels = Math.min(bins.length, Math.max(2, Math.floor(room / 130)));
  const long = days > 31 * labels; // otherwise a month would be shown twice
  const chart = byId("chart");
  const focused = chart.contains(document.activeElement);
  drawBars(bins, (index) => range(firstDay + index * span, firstDay + (index + 1) * span - 1), Array.from(
    { length: labels },
    (_, index) => {
      const place = Math.floor((index * bins.length) / labels);
      return [place, (long ? month : shortDay)(firstDay + place * span)];
    },
  ), isChosen);
  chart.classList.toggle("some", shown.days !== null);
  const bars = [...chart.querySelectorAll(".bin")];
  const bar = bars.find((each) => each.dataset.index === String(current)) ?? bars.at(-1);
  bar?.setAttribute("tabindex", "0"); // the arrow keys go to the others
  if (focused) bar?.focus();
  byId("caption").textContent = `${range(firstDay, lastDay)}, ${
    span === 1 ? "one bar a day" : `one bar for ${plural(span, "day")}`}. Times in ${zone.name}.`;
  const totals = Object.fromEntries(KINDS.map(([kind]) => [kind, bins.reduce((sum, bin) => sum + (bin[kind] ?? 0), 0)]));
  chart.setAttribute("aria-label", `Events over time: ${listed(totals)}`);
}

function useZone(name) {
  zone = zoneOf(name);
  clock = zone.format({ hour: "2-digit", minute: "2-digit" });
  exact = zone.format({ dateStyle: "full", timeStyle: "long" });
  fillZones(byId("zone"), zone.name);
}

// --- Set-up ---

for (const [kind, name] of [...KINDS, [ROBOTS, "Robots"]]) {
  const label = element("label", kind);
  label.id = `label-${kind}`;
  const box = element("input");
  box.type = "checkbox";
  box.checked = true;
  box.name = kind;
  box.addEventListener("change", () => {
    const others = shown.hidden.filter((each) => each !== kind);
    filter({ ...shown, hidden: box.checked ? others : [...others, kind] }, replace);
  });
  const count = element("b", "", "0");
  count.id = `count-${kind}`;
  label.append(box, element("span", "dot"), element("span", "", name), count);
  byId("kinds").append(label);
}

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
byId("contact").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing) return;
  event.preventDefault();
  byId("search").requestSubmit();
});
byId("contact").addEventListener("input", (event) => {
  if (/[\r\n]/.test(event.target.value)) event.target.value = event.target.value.replace(/\s*[\r\n]+\s*/g, " ").trim();
  fit();
});
byId("zone").addEventListener("change", () => {
  keep(byId("zone").value);
  useZone(byId("zone").value);
  if (byId("result").hidden) return;
  if (shown.from || shown.to) return search(shown); // days of another zone
  showAnswers();
  resetRows();
  showFilters();
  draw();
});
byId("unfold").addEventListener("click", () => {
  const folded = byId("search").classList.contains("folded");
  fold(!folded);
  if (folded) byId("contact").focus();
});
byId("link").addEventListener("click", async () => {
  await navigator.clipboard.writeText(link(shown, zone.name));
  byId("link").textContent = "Copied";
  byId("spoken").textContent = "Link copied. It names the contact.";
});
byId("all-dates").firstElementChild.addEventListener("click", () => {
  byId("from").value = byId("to").value = "";
  submit();
});
byId("stop").addEventListener("click", () => {
  finish("Stopped: there may be more.");
  (byId("go").checkVisibility() ? byId("go") : byId("unfold")).focus();
});
byId("more").addEventListener("click", () => {
  limit += ROWS;
  draw();
});
byId("chart").addEventListener("click", (event) => {
  const bar = event.target.closest("[data-index]");
  if (bar) pick(Number(bar.dataset.index));
});
byId("chart").addEventListener("keydown", (event) => {
  const bars = [...byId("chart").querySelectorAll(".bin")];
  const at = bars.indexOf(document.activeElement);
  if (at < 0) return;
  const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: bars.length - 1 }[event.key];
  if (next === undefined && !["Enter", " "].includes(event.key)) return;
  event.preventDefault();
  if (next === undefined) return pick(Number(bars[at].dataset.index));
  const bar = bars[Math.min(bars.length - 1, Math.max(0, next))];
  current = Number(bar.dataset.index);
  bars[at].setAttribute("tabindex", "-1");
  bar.setAttribute("tabindex", "0");
  bar.focus();
});
const wide = window.matchMedia("(min-width: 36.01rem)");
const unfoldDates = () => (byId("grounds").open = wide.matches);
wide.addEventListener("change", unfoldDates);
unfoldDates();
window.addEventListener("resize", () => {
  draw();
  fit();
});
window.addEventListener("popstate", restore);
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
      fit();
      submit();
    });
    byId("samples").append(button);
  }
});
useZone(null);
restore();
