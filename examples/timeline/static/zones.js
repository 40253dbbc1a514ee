// Days and times in a time zone. A day is a number, counted from 1970-01-01: days of 23 and 25 hours are days like others.
export const LANGUAGE = "en-GB";
const DAY = 86_400_000;
const QUARTER = 900_000; // ms; clocks change at full quarters of an hour, so a quarter lies within one day
const KEPT = "timeline.zone"; // in localStorage

export const OWN = new Intl.DateTimeFormat().resolvedOptions().timeZone ?? "UTC"; // the browser's

export class Zone {
  #days = new Map(); // by the number of the quarter
  #parts;

  // Throws RangeError if there is no such zone.
  constructor(name) {
    this.name = name;
    this.#parts = new Intl.DateTimeFormat("en-GB", { timeZone: name, year: "numeric", month: "numeric", day: "numeric" });
  }

  // The day of an instant (epoch ms).
  day(at) {
    const quarter = Math.floor(at / QUARTER);
    let day = this.#days.get(quarter);
    if (day === undefined) {
      const parts = Object.fromEntries(this.#parts.formatToParts(at).map(({ type, value }) => [type, Number(value)]));
      day = Date.UTC(parts.year, parts.month - 1, parts.day) / DAY;
      this.#days.set(quarter, day);
    }
    return day;
  }

  // The first instant of a day (epoch ms), which is not always 0:00.
  start(day) {
    let before = (day * DAY - 0.625 * DAY) / QUARTER;
    let after = (day * DAY + 0.625 * DAY) / QUARTER;
    while (after - before > 1) {
      const middle = Math.floor((before + after) / 2);
      if (this.day(middle * QUARTER) < day) before = middle;
      else after = middle;
    }
    return after * QUARTER;
  }

  // A formatter of instants.
  format(options) {
    const own = new Intl.DateTimeFormat(LANGUAGE, { ...options, timeZone: this.name });
    return (at) => own.format(at);
  }
}

// A formatter of days.
export function dayFormat(options) {
  const utc = new Intl.DateTimeFormat(LANGUAGE, { ...options, timeZone: "UTC" });
  return (day) => utc.format(day * DAY);
}

// The day that a field of a form holds, as in "2026-03-29".
export function dayOf(text) {
  const [year, month, day] = text.split("-").map(Number);
  return Date.UTC(year, month - 1, day) / DAY;
}

// --- Which zone ---

// That of this name, else the one that the reader has chosen before, else the browser's.
export function zone(name) {
  for (const each of [name, kept(), OWN]) {
    try {
      if (each) return new Zone(each);
    } catch {
      // there is no such zone, or this browser does not know it
    }
  }
  return new Zone("UTC");
}

export function keep(name) {
  try {
    if (name === OWN) localStorage.removeItem(KEPT);
    else localStorage.setItem(KEPT, name);
  } catch {
    // the browser keeps nothing for pages
  }
}

function kept() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null;
  }
}

// Fill a <select> with all zones: the browser's, UTC, and the others by region.
export function fillZones(select, chosen) {
  const others = Intl.supportedValuesOf("timeZone").filter((name) => name.includes("/") && name !== OWN);
  const groups = new Map();
  for (const name of others) {
    const region = name.slice(0, name.indexOf("/"));
    groups.set(region, [...(groups.get(region) ?? []), name]);
  }
  select.replaceChildren(new Option(`${OWN} (yours)`, OWN));
  if (OWN !== "UTC") select.append(new Option("UTC", "UTC"));
  for (const [region, names] of groups) {
    const group = document.createElement("optgroup");
    group.label = region;
    group.append(...names.map((name) => new Option(name, name)));
    select.append(group);
  }
  if (![...select.options].some((option) => option.value === chosen)) select.append(new Option(chosen, chosen));
  select.value = chosen;
}
