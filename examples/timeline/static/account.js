// The last hour of the whole account, by action, live. The server sends all counts each time: nothing is added up here.
import {
  CHART_LEFT, KINDS, about, byId, drawBars, element, hideNotice, listed, number, plural, setState, showNotice,
} from "./page.js";
import { zone as zoneOf } from "./zones.js";

const COLUMNS = [
  ["sent", "Sent"], ["opened", "Opened"], ["clicked", "Clicked"], ["bounced", "Bounced"], ["hard", "Hard"],
  ["soft", "Soft"], ["stopped", "Stopped"], ["cancelled", "Cancelled"], ["other", "Other"], ["all", "All"],
];
const MINUTE = 60_000;
const SPEAK = 60_000; // ms between two announcements of the count to screen readers
const LOST = "The connection to this page's server was lost.";
const zone = zoneOf(null); // the one that was chosen for the timelines
const clock = zone.format({ hour: "2-digit", minute: "2-digit" });
const exact = zone.format({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const date = zone.format({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const old = zone.format({ day: "numeric", month: "short", year: "numeric" });

let source = null; // while the page is live
let paused = false; // by the reader, or by a problem
let latest = null; // the counts that are shown
let rows = new Map(); // of the table, by action
let spoken = -Infinity; // when the count was announced

// --- The connection ---

function connect() {
  if (source || paused || document.hidden) return;
  byId("problem").textContent = "";
  byId("stop").textContent = "Pause";
  setState("Reading the last hour …", true);
  source = new EventSource("/account/counts");
  source.addEventListener("counts", (message) => {
    latest = JSON.parse(message.data);
    if (latest.complete) setState("Live", true);
    draw();
  });
  source.addEventListener("notice", (message) => {
    const notice = JSON.parse(message.data);
    if (!notice) return hideNotice();
    showNotice(notice.words, notice.seconds);
    setState("Not live", false);
  });
  source.addEventListener("problem", (message) => fail(JSON.parse(message.data).words));
  source.onopen = hideNotice;
  // All counts are sent anew: the browser may connect again by itself.
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) return fail(LOST);
    showNotice(`${LOST} Trying again`, 3);
    setState("Not live", false);
  };
}

function disconnect() {
  source?.close();
  source = null;
  hideNotice();
}

function pause(state) {
  paused = true;
  disconnect();
  byId("stop").textContent = "Resume";
  setState(state, false);
}

function fail(words) {
  pause("Not live");
  byId("problem").textContent = words;
}

// --- Drawing ---

function draw() {
  const { end, totals, actions, others, rest, complete } = latest;
  const all = totals.all ?? 0;
  byId("as-of").textContent = `as of ${exact(end)}`;
  byId("count").textContent = number.format(all);
  byId("count-words").textContent = all === 1 ? "event" : "events";
  const kinds = folded(totals);
  for (const [kind] of KINDS) byId(`count-${kind}`).textContent = number.format(kinds[kind]);
  drawChart();
  const lines = actions.toSorted((one, other) => (other.began ?? 0) - (one.began ?? 0)).map(({ action, began, counts }) => (
    { key: `action ${action}`, name: action ?? "no action", began, counts, id: action !== null }
  ));
  if (others) lines.push({ key: "rest", name: plural(others, "more action"), began: null, counts: rest });
  drawRows(lines);
  const sums = byId("sums");
  sums.replaceChildren();
  if (lines.length > 1) {
    sums.append(makeRow());
    fill(sums.firstChild, { name: "Total", began: null, counts: totals }, false);
  }
  byId("actions").hidden = all === 0;
  byId("nothing").hidden = all > 0 || !complete;
  const now = performance.now();
  if (complete && now - spoken >= SPEAK) {
    spoken = now;
    byId("spoken").textContent = `${plural(all, "event")} in the last hour, of ${plural(actions.length + others, "action")}`;
  }
}

// Counts by column as counts by kind.
function folded(counts) {
  const kinds = Object.fromEntries(KINDS.map(([kind]) => [kind, counts[kind] ?? 0]));
  kinds.other += counts.cancelled ?? 0;
  return { ...kinds, total: counts.all ?? 0 };
}

function drawChart() {
  const { start, minutes } = latest;
  const bins = minutes.map(folded);
  const at = (index) => clock(start + index * MINUTE);
  const each = byId("chart").clientWidth - CHART_LEFT > 500 ? 10 : 20;
  drawBars(bins, at, bins.map((_, index) => [index, at(index)]).filter(([index]) => index % each === 0));
  const full = bins.slice(0, -1); // the last one goes on
  const mean = full.reduce((sum, bin) => sum + bin.total, 0) / full.length;
  byId("caption").textContent = `Events by minute, from ${at(0)} on. In the last full minute ${
    number.format(full.at(-1).total)}, on average ${number.format(Math.round(mean))}. Times in ${zone.name}. Robots' opens and clicks are counted, too.`;
  byId("chart").setAttribute("aria-label", `Events by minute: ${listed(folded(latest.totals))}`);
}

// Rows that are there stay, so that the place of a reader in the table does too.
function drawRows(lines) {
  const kept = new Map();
  for (const line of lines) {
    const known = rows.get(line.key);
    const row = known ?? makeRow();
    fill(row, line, known !== undefined);
    kept.set(line.key, row);
  }
  rows = kept;
  const place = byId("rows");
  const wanted = [...kept.values()];
  for (const row of [...place.children]) if (!wanted.includes(row)) row.remove();
  wanted.forEach((row, index) => {
    if (place.children[index] !== row) place.insertBefore(row, place.children[index] ?? null);
  });
}

// On a narrow page a row is laid out as a card: CSS would take the meaning of a table from it without these roles.
function makeRow() {
  const row = element("tr");
  row.setAttribute("role", "row");
  const name = element("th");
  name.scope = "row";
  name.dir = "auto";
  name.setAttribute("role", "rowheader");
  const began = element("td", "began");
  began.dataset.name = "Sending began";
  row.append(name, began, ...COLUMNS.map(([, title]) => {
    const cell = element("td", "number");
    cell.dataset.name = title;
    return cell;
  }));
  for (const cell of row.querySelectorAll("td")) cell.setAttribute("role", "cell");
  return row;
}

function fill(row, { name, began, counts, id }, flash) {
  const [head, time, ...cells] = row.children;
  head.textContent = name;
  head.classList.toggle("id", id === true);
  time.textContent = began === null ? "" : moment(began);
  time.title = began === null ? "" : new Date(began).toISOString();
  COLUMNS.forEach(([column], index) => {
    const cell = cells[index];
    const text = number.format(counts[column] ?? 0);
    if (cell.textContent === text) return;
    cell.classList.toggle("zero", text === "0");
    cell.textContent = text;
    if (flash) cell.classList.add("changed");
  });
}

function moment(at) {
  if (zone.day(at) === zone.day(latest.end)) return exact(at);
  return (latest.end - at < 180 * 24 * 60 * MINUTE ? date : old)(at);
}

// --- Set-up ---

for (const [kind, name] of KINDS) {
  const item = element("li", kind);
  const count = element("b", "", "0");
  count.id = `count-${kind}`;
  item.append(element("span", "dot"), element("span", "", name), count);
  byId("totals").append(item);
}
for (const name of ["Action", "Sending began", ...COLUMNS.map(([, title]) => title)]) {
  const head = element("th", "", name);
  head.scope = "col";
  head.setAttribute("role", "columnheader");
  byId("names").append(head);
}
byId("stop").addEventListener("click", () => {
  if (!paused) return pause("Paused");
  paused = false;
  connect();
});
byId("actions").addEventListener("animationend", (event) => event.target.classList.remove("changed"));
window.addEventListener("resize", () => latest && draw());
// Nobody looks at a hidden page, so nothing is read for it.
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
window.addEventListener("pagehide", disconnect);
window.addEventListener("pageshow", connect);
about();
connect();
