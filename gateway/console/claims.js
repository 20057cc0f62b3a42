// The sentences of a summary; each opens to the events that it rests on.

import { Api } from "./api.js";
import { byId, element, notify, when } from "./dom.js";

const NOT_CONTENT = ["type", "source", "metadata", "occurred_at", "directions"];
const LAST = "9999999999999999999"; // a sequence number behind all of a millisecond

export class ClaimList {
  constructor(api, user) {
    this.api = api;
    this.user = user;
  }

  /** A stream that begins again sends the same claims: those that are open stay so. */
  show(claims) {
    const shown = JSON.stringify(claims);
    if (shown === this.shown) return;
    this.shown = shown;
    byId("evidence").hidden = !claims.length;
    byId("claims").replaceChildren(...claims.map((claim) => this.entry(claim)));
  }

  entry(claim) {
    const basis = element("span", { class: "basis" }, describe(claim));
    const entry = element("li", { class: claim.supported ? undefined : "unsupported" });
    if (!claim.support.length) {
      entry.append(element("p", {}, claim.text, " ", basis));
      return entry;
    }
    const list = element("ul", {});
    const details = element("details", {}, element("summary", {}, claim.text, " ", basis), list);
    details.addEventListener("toggle", () => {
      if (details.open && !list.childElementCount) this.load(claim, list).catch(notify);
    });
    entry.append(details);
    return entry;
  }

  async load(claim, list) {
    const events = await Promise.all(claim.support.map((id) => this.event(id)));
    list.replaceChildren(...events.map((event) => element("li", {}, event)));
  }

  /** An event as one line; a later event in its place means that it is no longer kept. */
  async event(id) {
    const path = Api.user(this.user, `/events?limit=1&after=${before(id)}`);
    const [event] = (await this.api.json("GET", path)).events;
    if (event?.event_id !== id) return "An event that is no longer kept.";
    return `${when(event.received_at)} · ${event.interaction.type}: ${content(event.interaction)}`;
  }
}

function describe(claim) {
  if (claim.kind === "own") return "the user's own words";
  if (!claim.supported) return "no event supports this";
  if (!claim.count) return "";
  const since = claim.since ? `, since ${when(claim.since)}` : "";
  return `${claim.count === 1 ? "1 event" : `${claim.count} events`}${since}`;
}

/** The cursor behind which the event stands first. */
function before(id) {
  const [time, sequence] = id.split("-").map(BigInt);
  return sequence ? `${time}-${sequence - 1n}` : `${time - 1n}-${LAST}`;
}

function content(interaction) {
  const fields = Object.entries(interaction).filter(([name, value]) => value !== null && !NOT_CONTENT.includes(name));
  if (fields.length === 1) return plain(fields[0][1]);
  return fields.map(([name, value]) => `${name}: ${plain(value)}`).join("; ");
}

function plain(value) {
  if (Array.isArray(value)) return value.map(plain).join(", ");
  if (value?.role) return `${value.role}: ${value.content}`;
  return String(value?.title ?? value);
}
