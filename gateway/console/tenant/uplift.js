// What became of answers with and without personalization, with what the difference means.

import { count, element, facts, percent, when } from "../dom.js";

const MEASURES = {
  accuracy: ["Selections that were right", "A user then took the item that was selected.", "a choice"],
  click_rate: ["Recommendations taken", "A user then took one of the items shown.", "a recommendation"],
  feedback_rate: ["Thumbs up", "Of all thumbs.", "a thumb"],
};
const ARMS = { personalized: "Personalized", control: "Held out" };

/** Null while no users are held out. */
export function upliftView({ holdout_share: share, since, until, arms, uplift }) {
  if (!share) return null;
  const served = Object.entries(ARMS).map(([arm, name]) => [`${name}, served`, answers(arms[arm].served)]);
  return element("div", { class: "stack" },
    facts([
      ["Held out", `${percent(share)} of users`],
      ["Period", since ? `${when(since)} to ${when(until)}` : "no answer was served yet"],
      ...served,
    ]),
    element("div", { class: "qualities" }, ...Object.entries(MEASURES).map(([measure, words]) =>
      comparison(words, arms.personalized[measure], arms.control[measure], uplift[measure]))));
}

function answers(served) {
  const kinds = Object.entries(served).filter(([, number]) => number).map(([kind, number]) => count(number, kind));
  return kinds.join(", ") || "nothing";
}

function comparison([title, about, event], personalized, control, difference) {
  const rate = ({ rate }, name, best) => element("div", { class: best ? "bar-line best" : "bar-line" },
    element("span", {}, name), element("span", {}, percent(rate)), element("meter", { value: rate ?? 0, "aria-label": name }));
  return element("section", { class: "quality", "aria-label": title },
    element("div", {}, element("h3", {}, title), element("p", { class: "hint" }, about)),
    element("div", { class: "result" }, rate(personalized, ARMS.personalized, true), rate(control, ARMS.control, false)),
    facts([
      [ARMS.personalized, sample(personalized)],
      [ARMS.control, sample(control)],
      ["Difference", difference ? `${signed(difference.value)} points (${ends(signed, difference)})` : null],
    ]),
    element("p", { class: "verdict" }, verdict(personalized, control, difference, event)));
}

const sample = (rate) => [`n = ${rate.trials.toLocaleString()}`, `of ${count(rate.users, "user")}`,
  rate.low === null ? "" : `(${ends(percent, rate)})`].filter(Boolean).join(" ");
const ends = (format, { low, high }) => `95\u00a0%: ${format(low)} to ${format(high)}`;
const size = (value) => Math.abs(value * 100).toFixed(1); // in points of percent
const signed = (value) => `${value < 0 ? "−" : "+"}${size(value)}`;

function verdict(personalized, control, difference, event) {
  const numbers = `n = ${personalized.trials.toLocaleString()} and ${control.trials.toLocaleString()}`;
  if (!difference) return `No difference can be told yet: ${numbers}. It takes two users with ${event} on each side.`;
  const { low, high } = difference;
  if (low > 0) return `Personalization helps, by ${size(low)} to ${size(high)} points.`;
  if (high < 0) return `Personalization harms, by ${size(high)} to ${size(low)} points. Look at the quality above, and at how events are sent.`;
  return `No difference can be told yet: ${numbers}. The interval holds zero; wait for more users.`;
}
