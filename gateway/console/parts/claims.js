// The sentences of a summary; each opens to the events that it rests on.

import { Api } from "../api.js";
import { count, element, moment } from "../dom.js";
import { interactionLine } from "./interaction_text.js";
import { Loaded } from "./states.js";

const LAST = "9999999999999999999"; // a sequence number behind all of a millisecond

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
    const events = new Loaded(() => this.events(claim));
    const details = element("details", {}, element("summary", {}, claim.text, " ", basis), events.node);
    details.addEventListener("toggle", () => details.open && !events.shown && events.refresh());
    entry.append(details);
    return entry;
  }

  async events(claim) {
    const events = await Promise.all(claim.support.map((id) => this.event(id)));
    return element("ul", { class: "evidence" }, ...events.map((event) => element("li", {}, event)));
  }

  /** An event as one line; a later event in its place means that it is no longer kept. */
  async event(id) {
    const path = Api.user(this.user, `/events?limit=1&after=${before(id)}`);
    const [event] = (await this.api.json("GET", path)).events;
    if (event?.event_id !== id) return "An event that is no longer kept.";
    return `${moment(event.interaction.occurred_at ?? event.received_at)} · ${event.interaction.type}: ${interactionLine(event.interaction)}`;
  }
}

function describe(claim) {
  if (claim.kind === "own") return "the user's own words";
  if (!claim.supported) return "no event supports this";
  if (!claim.count) return "";
  return count(claim.count, "event") + (claim.since ? `, since ${moment(claim.since)}` : "");
}

/** The cursor behind which the event stands first. */
function before(id) {
  const [time, sequence] = id.split("-").map(BigInt);
  return sequence ? `${time}-${sequence - 1n}` : `${time - 1n}-${LAST}`;
}
