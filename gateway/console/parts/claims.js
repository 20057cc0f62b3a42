// The sentences of a summary; each opens to the events that it rests on.

import { count, element, moment } from "../dom.js";
import { eventLines } from "./event_lines.js";
import { Loaded } from "./states.js";

export class ClaimList {
  constructor(api, user) {
    this.api = api;
    this.user = user;
    this.list = element("ul", { id: "claims", class: "claims" });
    this.node = element("section", { "aria-labelledby": "evidence-title", hidden: true },
      element("h3", { id: "evidence-title" }, "What each sentence rests on"), this.list);
  }

  /** A stream that begins again sends the same claims: those that are open stay so. */
  show(claims) {
    const shown = JSON.stringify(claims);
    if (shown === this.shown) return;
    this.shown = shown;
    this.node.hidden = !claims.length;
    this.list.replaceChildren(...claims.map((claim) => this.entry(claim)));
  }

  entry(claim) {
    const basis = element("span", { class: "basis" }, describe(claim));
    const entry = element("li", { class: claim.supported ? claim.kind : "unsupported" });
    if (!claim.support.length) {
      entry.append(element("p", {}, claim.text, " ", basis));
      return entry;
    }
    const events = new Loaded(() => eventLines(this.api, this.user, claim.support));
    const details = element("details", {}, element("summary", {}, claim.text, " ", basis), events.node);
    details.addEventListener("toggle", () => details.open && !events.shown && events.refresh());
    entry.append(details);
    return entry;
  }
}

function describe(claim) {
  if (claim.kind === "own") return "the user's own words";
  if (!claim.supported) return "no event supports this";
  if (!claim.count) return "";
  return count(claim.count, "event") + (claim.since ? `, since ${moment(claim.since)}` : "");
}
