// How well summaries foresaw choices, beside what must be beaten, with what a low number means.

import { count, element, facts, percent } from "../dom.js";

const COIN = 0.5;
const WORDS = { profile: "The fast profile", engine: "The engine, by the summary", fused: "Engine and profile together" };

/** Null where nothing was predicted. */
export function qualityView(quality) {
  const scorers = Object.entries(quality).filter(([, { comparisons }]) => comparisons);
  if (!scorers.length) return null;
  const profile = quality.profile?.accuracy;
  return element("div", { class: "qualities" }, ...scorers.map(([scorer, entry]) => {
    const baselines = { coin: COIN, ...entry.recent?.baselines };
    if (scorer !== "profile" && profile !== null && profile !== undefined) baselines.profile ??= profile;
    return element("section", { class: "quality", "aria-label": scorer },
      element("h3", {}, WORDS[scorer] ?? scorer), bars(entry.accuracy, baselines), numbers(entry), explain(entry));
  }));
}

function bars(accuracy, baselines) {
  const line = (name, share, own) => element("div", { class: own ? "bar-line best" : "bar-line" },
    element("span", {}, name), element("span", {}, percent(share)), element("meter", { value: share, "aria-label": name }));
  return element("div", { class: "result" }, line("foreseen", accuracy, true),
    ...Object.entries(baselines).map(([name, share]) => line(`to beat: ${name}`, share, false)));
}

function numbers({ comparisons, low, high, mean_probability: mean, recent }) {
  return facts([
    ["Choices", `n = ${comparisons.toLocaleString()}`],
    ["95 % interval", `${percent(low)} to ${percent(high)}`],
    ["Mean probability", percent(mean)],
    ["Latest", recent ? `${percent(recent.accuracy)} of ${count(recent.comparisons, "choice")} (${percent(recent.low)} to ${percent(recent.high)})` : null],
  ]);
}

function explain({ comparisons, accuracy, high }) {
  if (accuracy >= COIN) return null;
  const meaning = high >= COIN
    ? `With ${count(comparisons, "choice")} chance alone explains it: the interval holds 50 %. Wait for more choices.`
    : "The interval lies below 50 %, so it is no accident: users choose against their summaries. Look whether chosen and rejected are swapped where events are sent, and whether tastes have turned.";
  return element("p", { class: "explain" }, `Under 50 % a coin would foresee more. ${meaning}`);
}

const STATES = {
  none: "No new model, adapter or prompt template is on trial.",
  trial: "A new one writes for a share of the users.",
  held: "The new one is held back: its summaries predict worse.",
};

export function trialView({ state, incumbent, candidate, users_tested: users, evidence }) {
  return element("div", {}, element("p", {}, STATES[state]), facts([
    ["Writes now", incumbent ?? "none yet"],
    ["On trial", candidate],
    ["Users tested", state === "none" ? null : users],
    ["Evidence against it", state === "none" ? null : `${evidence.toFixed(2)} of 4.6`],
  ]));
}
