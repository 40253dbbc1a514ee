// Can we still reach this contact? The server decides; here it is put in words, with dates of the reader's time zone.
import { byId, element } from "./page.js";

const WORDS = { yes: "Yes", no: "No", doubtful: "Doubtful" };
const BY = { email: "by e-mail", sms: "by SMS", notification: "by notification", display: "on a website" };

// What is known before there is an answer.
export function sayReach(words) {
  byId("answers").replaceChildren(element("p", "answer", words));
  byId("grounds").hidden = true;
}

export function showReach(answers, zone, robotsKnown) {
  const date = zone.format({ day: "numeric", month: "long", year: "numeric" });
  const short = zone.format({ day: "numeric", month: "short", year: "numeric" });
  const exact = zone.format({ dateStyle: "full", timeStyle: "long" });
  byId("answers").replaceChildren(...answers.map((answer) => {
    const line = element("p", `answer ${answer.verdict}`);
    const by = answer.channel === null ? "" : `${answer.verdict === "no" ? ", not" : ","} ${way(answer.channel)}`;
    const when = answer.at === null ? "" : ` ${date(answer.at)}`;
    line.append(element("strong", "", `${WORDS[answer.verdict]}${by}`), `: ${answer.why}${when}${answer.then}.`);
    if (answer.said) {
      const said = element("span", "", answer.said);
      said.dir = "auto";
      line.append(" ", said, ".");
    }
    return line;
  }));
  byId("dates").replaceChildren(...answers.map((answer) => {
    const block = element("div", "channel");
    const list = element("dl");
    block.append(element("h4", "", answer.channel === null ? "" : way(answer.channel)));
    const unknown = robotsKnown ? "none" : "not known";
    for (const [name, at, none, words] of [
      ["Last sent", answer.sent, "none"], ["Last open", answer.opened, unknown], ["Last click", answer.clicked, unknown],
      ["Hard bounce", answer.bounced, "none", answer.bounce], ["Stop", answer.stopped, "none", answer.stop],
    ]) {
      const fact = element("div");
      const value = element("dd");
      value.append(at === null ? element("span", "none", none) : stamp(at, short(at), exact(at)));
      if (words) value.append(element("span", "words", words));
      fact.append(element("dt", "", name), value);
      list.append(fact);
    }
    block.append(list);
    return block;
  }));
  byId("grounds").hidden = false;
}

function way(channel) {
  return Object.hasOwn(BY, channel) ? BY[channel] : `by ${channel}`;
}

function stamp(at, text, title) {
  const time = element("time", "", text);
  time.title = title;
  time.dateTime = new Date(at).toISOString();
  return time;
}
