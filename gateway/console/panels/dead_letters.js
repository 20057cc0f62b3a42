// Events that could not be worked into the summary and were set aside.

import { Api } from "../api.js";
import { button, card, count, element, guarded, notify, when } from "../dom.js";
import { interactionView } from "../parts/interaction_text.js";
import { PagedList, note } from "../parts/states.js";

const PAGE = 20;

export class DeadLetters {
  /** `changed` is called when events wait again. */
  constructor(api, user, changed) {
    this.api = api;
    this.user = user;
    this.changed = changed;
    this.all = button("Try all again");
    this.all.onclick = guarded(this.all, () => this.retry());
    this.all.hidden = true;
    this.list = new PagedList((after) => this.read(after), {
      class: "events",
      more: "More dead letters",
      empty: note("No dead letters", "Every event was worked into the summary, or waits for it."),
    });
    this.node = card("Dead letters", this.list.node, this.all);
  }

  refresh() {
    return this.list.refresh();
  }

  async read(after) {
    const query = `?limit=${PAGE}${after ? `&after=${after}` : ""}`;
    const { events, next } = await this.api.json("GET", Api.user(this.user, `/dead-letters${query}`));
    this.all.hidden = !after && !events.length;
    return { entries: events.map((event) => this.entry(event)), next };
  }

  entry(letter) {
    const again = button("Try again");
    again.onclick = guarded(again, () => this.retry([letter.event_id]));
    return element("li", { class: "refused" },
      element("div", { class: "row head" },
        element("span", { class: "tag bad" }, letter.interaction?.type ?? "unreadable"),
        element("small", {}, when(letter.failed_at)), again),
      element("p", {}, letter.error),
      letter.interaction ? interactionView(letter.interaction) : null);
  }

  async retry(ids) {
    const body = ids ? { event_ids: ids } : {};
    const { events } = await this.api.json("POST", Api.user(this.user, "/dead-letters/retry"), { body });
    await this.refresh();
    this.changed();
    notify(`${count(events.length, "event waits", "events wait")} for the next update.`, true);
  }
}
