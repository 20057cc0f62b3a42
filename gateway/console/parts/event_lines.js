// Events by their ids, a line each.

import { Api } from "../api.js";
import { element, moment } from "../dom.js";
import { interactionLine } from "./interaction_text.js";

const LAST = "9999999999999999999"; // a sequence number behind all of a millisecond

export async function eventLines(api, user, ids) {
  const lines = await Promise.all(ids.map((id) => line(api, user, id)));
  return element("ul", { class: "evidence" }, ...lines.map((text) => element("li", {}, text)));
}

/** A later event in its place means that it is no longer kept. */
async function line(api, user, id) {
  const [event] = (await api.json("GET", Api.user(user, `/events?limit=1&after=${before(id)}`))).events;
  if (event?.event_id !== id) return "An event that is no longer kept.";
  return `${moment(event.interaction.occurred_at ?? event.received_at)} · ${event.interaction.type}: ${interactionLine(event.interaction)}`;
}

/** The cursor behind which the event stands first. */
function before(id) {
  const [time, sequence] = id.split("-").map(BigInt);
  return sequence ? `${time}-${sequence - 1n}` : `${time - 1n}-${LAST}`;
}
