// What each check of /readyz says, and what is known of the language model engine.

import { element, facts, percent, when } from "../dom.js";

const NAMES = {
  drain: "Gateway", redis: "Redis", redis_writes: "Redis takes writes", worker: "Worker", preference: "Preference service",
  response: "Response service",
};

export function healthView({ status, checks, engine }) {
  const entries = Object.entries(checks).map(([name, state]) => element("li", { class: state === "ok" ? "ok" : "wrong" },
    element("span", { class: "check-name" }, NAMES[name] ?? name), element("span", {}, state)));
  return element("div", { class: "stack" },
    element("p", {}, status === "ready" ? "The suite is ready." : "The suite is not ready."),
    element("ul", { class: "checks-list" }, ...entries),
    element("h3", {}, "Language model engine"),
    engine ? engineView(engine) : element("p", { class: "hint" }, "None: the fast profile writes, selects and ranks."));
}

function engineView(engine) {
  const accuracies = Object.entries(engine.accuracies).map(([name, share]) => `${name} ${percent(share)}`).join(", ");
  return facts([
    ["State", engine.state],
    ["Why", engine.detail],
    ["In its words", engine.words],
    ["Model", engine.model],
    ["Dialect", engine.dialect],
    ["Window", `${engine.context_tokens.toLocaleString()} tokens`],
    ["Chooses by", engine.letters || engine.protocol === "likelihood" ? engine.protocol : "nothing: the profile chooses"],
    ["Foresees shipped pairs", accuracies],
    ["Reasons", engine.reasons ? "yes" : "no"],
    ["Looked at", engine.checked_at ? when(engine.checked_at) : "not yet"],
  ]);
}
