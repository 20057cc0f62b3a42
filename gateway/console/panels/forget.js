// Forgets an event of a user, or all that events are about: what would go, a confirmation, and the receipt.

import { Api } from "../api.js";
import { button, card, count, element, facts, field, guarded, moment } from "../dom.js";
import { ask } from "../parts/dialog.js";
import { eventLines } from "../parts/event_lines.js";
import { interactionLine } from "../parts/interaction_text.js";

const SHOWN = 5; // events of a question
const AFTER = "Versions of the summary since then go with it, and a summary is written anew from what is left. Nothing brings it back.";

export class Forgetting {
  /** `changed` is called when something has gone. */
  constructor(api, user, changed) {
    this.api = api;
    this.user = user;
    this.changed = changed;
    this.receipt = element("section", { class: "card", tabindex: "-1", "aria-labelledby": "receipt-title", hidden: true });
    this.about = element("input", { maxlength: 500, required: true, autocomplete: "off" });
    this.found = element("p", { class: "hint", role: "status" });
    const submit = element("button", { type: "submit", class: "quiet" }, "Show what would go");
    const form = element("form", { class: "find", autocomplete: "off" },
      field("About", this.about, "An item's id or title, or words that an event or a sentence of the summary holds, all of them"), submit);
    form.onsubmit = guarded(submit, () => this.askAbout(this.about.value.trim()));
    this.node = card("Forget one thing",
      element("p", { class: "hint" }, "Each event above has a button of its own. Here you first see what would go."),
      form, this.found);
  }

  /** The button of an event. */
  button({ event_id: id, received_at: received, interaction }) {
    const told = moment(interaction.occurred_at ?? received);
    return button("Forget", () => this.confirm({
      title: "Forget this event?",
      text: AFTER,
      action: "Forget the event",
      content: [element("p", { class: "told clipped" }, `${told} · ${interaction.type}: ${interactionLine(interaction)}`)],
    }, () => this.api.json("DELETE", Api.user(this.user, `/events/${id}`))), { "aria-label": `Forget the ${interaction.type} of ${told}` });
  }

  async askAbout(about) {
    const forget = (dry_run) => this.api.json("POST", Api.user(this.user, "/forget"), { body: { about, dry_run } });
    this.found.textContent = "";
    const found = await forget(true);
    const ids = found.event_ids;
    if (!ids.length && !found.versions && !found.rejected_drafts && !found.checkpoint) {
      this.found.textContent = `Nothing that is kept is about “${about}”.`;
      return;
    }
    const lines = await eventLines(this.api, this.user, ids.slice(0, SHOWN));
    if (ids.length > SHOWN) lines.append(element("li", {}, `and ${count(ids.length - SHOWN, "other event")}`));
    const done = await this.confirm({
      title: `Forget what is about “${about}”?`,
      text: AFTER,
      action: ids.length ? `Forget ${count(ids.length, "event")}` : "Forget it",
      content: [goes(found), lines],
    }, () => forget(false));
    if (done) this.about.value = "";
  }

  async confirm(question, run) {
    let receipt;
    const done = await ask({ ...question, danger: true, run: async () => (receipt = await run()) });
    if (!done) return false;
    this.receipt.replaceChildren(element("h2", { id: "receipt-title" }, "Forgotten"), goes(receipt, leaves(receipt)));
    this.receipt.hidden = false;
    this.receipt.focus();
    this.changed();
    return true;
  }
}

/** What a receipt says that goes, and `more` facts. */
function goes(receipt, more = []) {
  const { event_ids: ids, dead_letters: dead, versions, own_texts: own, claims, rejected_drafts: drafts, checkpoint } = receipt;
  return facts([
    ["Events", ids.length.toLocaleString() + (dead ? `, of them ${dead} set aside` : "")],
    ["Versions of the summary", versions.toLocaleString() + (own ? `, of them ${own} written by the user` : "")],
    ["Sentences of these", claims.toLocaleString()],
    ["Rejected drafts", drafts || null],
    ["Before the log", checkpoint ? "what was known of events older than the log" : null],
    ...more,
  ]);
}

const leaves = ({ version, pending, update_queued: queued }) => [
  ["Now current", version ? `version ${version}` : "no version"],
  ["Events that wait", pending || null],
  ["Next", queued ? "a summary is written anew from what is left" : null],
];
