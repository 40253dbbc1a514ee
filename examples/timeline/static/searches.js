// The searches of this tab, for Back and Forward. Each is an entry of the browser's history, kept in its state, so that
// neither the address bar nor a server nor a list of visited pages names a contact. A link that the reader copies does,
// after its "#", which browsers do not send.
export const FIELDS = ["contact", "by", "from", "to"];
export const NONE = Object.freeze({ contact: "", by: "auto", from: "", to: "", hidden: [], days: null });

// The search that the page is to show: of a link that was opened, else of this entry of the history.
export function recall() {
  if (location.hash.length > 1) {
    const given = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    const search = { ...NONE };
    for (const name of FIELDS) if (given[name]) search[name] = given[name];
    replace(search);
    return { ...search, zone: given.zone };
  }
  return { ...NONE, ...history.state };
}

// A new entry, which Back undoes.
export function push(search) {
  history.pushState(search, "", location.pathname);
}

// The same entry, changed.
export function replace(search) {
  history.replaceState(search, "", location.pathname);
}

export function isSame(one, other) {
  return FIELDS.every((name) => one[name] === other[name]);
}

// Days mean those of a zone, so the link names it.
export function link(search, zone) {
  const kept = new URLSearchParams();
  for (const name of FIELDS) if (search[name] && search[name] !== NONE[name]) kept.set(name, search[name]);
  kept.set("zone", zone);
  return `${location.origin}${location.pathname}#${kept}`;
}
