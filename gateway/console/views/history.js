// A user's events by type, those that were set aside, what to forget, and what belongs to the user alone: export and erasure.

import { Api } from "../api.js";
import { button, card, checkbox, element, field, guarded, moment, notify, when } from "../dom.js";
import { DeadLetters } from "../panels/dead_letters.js";
import { Forgetting } from "../panels/forget.js";
import { TYPES, interactionView } from "../parts/interaction_text.js";
import { ask } from "../parts/dialog.js";
import { PagedList, note } from "../parts/states.js";

const SHOWN = 20; // events of a page
const FILTERED = [100, 900]; // read by a call each until the page is full, where some types are left out

export function open(page, { api, user, go }) {
  const filter = new Filter(() => list.refresh());
  const list = new PagedList((after) => readEvents(api, user, filter, after, forgetting), {
    class: "events",
    more: "More events",
    empty: note("No such event", "Choose other types, or an earlier day."),
  });
  const dead = new DeadLetters(api, user, () => list.refresh());
  const forgetting = new Forgetting(api, user, () => {
    list.refresh();
    dead.refresh();
  });
  page.append(forgetting.receipt, card("Events", filter.node, list.node), dead.node, forgetting.node, ownData(api, user, go));
  list.refresh();
  dead.refresh();
}

class Filter {
  constructor(changed) {
    this.boxes = TYPES.map((type) => checkbox(type, { value: type, checked: true, onchange: changed }));
    this.since = element("input", { type: "date", autocomplete: "off", onchange: changed });
    this.order = element("select", { onchange: changed },
      element("option", { value: "desc" }, "Newest first"), element("option", { value: "asc" }, "Oldest first"));
    this.node = element("div", { class: "filter" },
      element("fieldset", {}, element("legend", {}, "Types"), element("div", { class: "checks" }, ...this.boxes)),
      field("Received since", this.since), field("Order", this.order));
  }

  get types() {
    return this.boxes.map((box) => box.firstChild).filter(({ checked }) => checked).map(({ value }) => value);
  }

  /** The time in ms at which the chosen day begins; 0 for all. */
  get start() {
    return this.since.value ? new Date(`${this.since.value}T00:00`).getTime() : 0;
  }

  /** The cursor behind which the first page begins; null for all. */
  get cursor() {
    return this.order.value === "asc" && this.start ? `${this.start - 1}-9999999999999999999` : null;
  }
}

async function readEvents(api, user, filter, after, forgetting) {
  const types = filter.types;
  const entries = [];
  let cursor = after ?? filter.cursor;
  for (const limit of types.length === TYPES.length ? [SHOWN] : FILTERED) {
    const query = `?limit=${limit}&order=${filter.order.value}${cursor ? `&after=${cursor}` : ""}`;
    const page = await api.json("GET", Api.user(user, `/events${query}`));
    for (const event of page.events) {
      if (parseInt(event.event_id) < filter.start) return { entries, next: null };
      cursor = event.event_id;
      if (types.includes(event.interaction.type)) entries.push(eventEntry(event, forgetting.button(event)));
      if (entries.length === SHOWN) return { entries, next: event === page.events.at(-1) ? page.next : cursor };
    }
    if (!page.next) return { entries, next: null };
  }
  return { entries, next: cursor };
}

function eventEntry({ received_at: at, interaction }, forget) {
  const times = interaction.occurred_at ? `${moment(interaction.occurred_at)}, received ${when(at)}` : when(at);
  const source = interaction.source ? ` · ${interaction.source}` : "";
  return element("li", {},
    element("div", { class: "row head" }, element("span", { class: "tag" }, interaction.type),
      element("small", {}, `${times}${source}`), forget),
    interactionView(interaction));
}

function ownData(api, user, go) {
  const save = button("Export as JSON Lines");
  save.onclick = guarded(save, async () => {
    const answer = await api.fetch("GET", Api.user(user, "/export"));
    const url = URL.createObjectURL(await answer.blob());
    element("a", { href: url, download: "user.jsonl" }).click();
    URL.revokeObjectURL(url);
  });
  const erase = button("Erase this user", async () => {
    const done = await ask({
      title: "Erase this user?",
      text: "Events, summaries and profile are deleted, and nothing brings them back.",
      word: user,
      action: "Erase",
      danger: true,
      run: () => api.json("DELETE", Api.user(user)),
    });
    if (!done) return;
    go("users");
    addEventListener("hashchange", () => setTimeout(() => notify("The user is erased.", true)), { once: true });
  }, { class: "quiet danger-text" });
  return card("Everything that is kept",
    element("p", { class: "hint" }, "The export holds all events, versions and refused drafts. An erasure cannot be undone."),
    element("div", { class: "row" }, save, erase));
}
