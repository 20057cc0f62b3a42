// What a selection or ranking rests on: who scored, and what each counted.

import { element, facts } from "../dom.js";

const METHODS = { profile: "the fast profile", engine: "the engine", fused: "the engine and the fast profile" };
const BASIS = {
  profile: "the fast profile",
  text: "the summary's text",
  contrast: "earlier choices",
  traffic: "what other users took",
  popular: "what is popular: nothing is known of the user",
};
const FALLBACKS = {
  engine_timeout: "the engine took too long",
  engine_unavailable: "the engine does not answer",
  engine_unsupported: "the engine reports no log-probabilities",
  engine_rejected: "the engine refused the request",
  engine_error: "the engine's answer could not be read",
  budget_spent: "the tenant's token budget is spent",
};

export function basisView({ method, version, basis, weights, mixture, fallback, position_bias: bias }) {
  const numbers = (values) => Object.entries(values ?? {}).filter(([, value]) => value)
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${value.toFixed(2)}`).join(", ");
  return element("div", { class: "basis-view" }, element("h3", {}, "What it rests on"), facts([
    ["Scored by", METHODS[method] ?? method],
    ["Summary", version ? `version ${version}` : null],
    ["Took part", basis.map((name) => BASIS[name] ?? name).join(", ")],
    ["Weights", numbers(weights)],
    ["Within the profile", numbers(mixture)],
    ["Order matters by", bias === null || bias === undefined ? null : bias.toFixed(3)],
    ["No engine, since", fallback ? FALLBACKS[fallback] ?? fallback : null],
  ]));
}
