// One moment of the timeline: a version, or a draft that a check refused.

import { button, count, element, facts, percent, when } from "../dom.js";
import { Loaded } from "../parts/states.js";
import { diffView } from "../parts/text_change.js";

/** `parent()` gives the version it was made from, `restore()` makes it current again. */
export function versionEntry(version, { current, parent, restore }) {
  const origin = version.restored_from ? `restored from version ${version.restored_from}` : `written by ${version.source}`;
  const head = element("div", { class: "row head" },
    element("h3", {}, `Version ${version.version}`),
    current ? element("span", { class: "tag" }, "current") : null,
    element("small", {}, `${when(version.created_at)} · ${origin}`));
  const changes = version.parent ? folded("What changed", async () => diffView((await parent()).text, version.text)) : null;
  const reasoning = version.reasoning
    ? element("details", {}, element("summary", {}, "Reasoning"), element("p", { class: "reasoning" }, version.reasoning))
    : null;
  return element("li", { class: current ? "current" : undefined }, head,
    element("p", { class: "summary" }, version.text), changes, reasoning,
    element("details", {}, element("summary", {}, "How it came about"), origins(version)),
    current ? null : element("div", { class: "row" },
      button("Restore", restore, { "aria-label": `Restore version ${version.version}` })));
}

export function draftEntry(draft) {
  return element("li", { class: "refused" },
    element("div", { class: "row head" },
      element("h3", {}, "Draft refused"), element("span", { class: "tag bad" }, draft.check),
      element("small", {}, `${when(draft.created_at)} · written by ${draft.source}`)),
    element("p", {}, draft.reason),
    element("details", {}, element("summary", {}, "The refused text"), element("p", { class: "reasoning" }, draft.text)));
}

function folded(title, load) {
  const content = new Loaded(load);
  const details = element("details", {}, element("summary", {}, title), content.node);
  details.addEventListener("toggle", () => details.open && !content.shown && content.refresh());
  return details;
}

function origins({ events, tokens, latency_ms: latency, template, prequential, regression }) {
  const read = tokens.prompt + tokens.completion;
  return facts([
    ["New events", events.count ? count(events.count, "event") : "none"],
    ["Prompt template", template],
    ["Tokens", read ? `${tokens.prompt} read (${tokens.cached} cached), ${tokens.completion} written` : null],
    ["Time", latency ? `${Math.round(latency).toLocaleString()} ms` : null],
    ["The version before foresaw", prequential?.comparisons
      ? `${percent(prequential.accuracy)} of ${count(prequential.comparisons, "choice")}` : null],
    ["Test against", regression ? `version ${regression.against}, on ${count(regression.choices, "choice")}` : null],
  ]);
}
