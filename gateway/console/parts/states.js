// What is fetched, in each of its states: loading, here, empty, failed, offline.

import { button, element } from "../dom.js";

/** A note in place of content: what the matter is, and what can be done. */
export function note(title, text, ...actions) {
  return element("div", { class: "note" },
    element("p", { class: "note-title" }, title), text ? element("p", {}, text) : null, ...actions);
}

function failure(error, again) {
  if (error.code === "user_unknown") return note("No history is kept for this user", "Send a first event on the page Summary.");
  const retry = button("Try again", again);
  if (error.code === "offline") return note("Offline", error.message, retry);
  if (error.status === 403) {
    const lacks = error.scope ? `The key lacks the scope ${error.scope}.` : error.message;
    return note("This key may not see this", lacks);
  }
  return note("This did not load", error.message, retry);
}

/** A part of a page. `load` gives its content, or null where there is none; `empty` is shown then. */
export class Loaded {
  constructor(load, empty = note("Nothing here yet")) {
    this.load = load;
    this.empty = empty;
    this.node = element("div", { class: "loaded" });
    this.turn = 0;
  }

  /** Loads it anew; an answer that a later call has overtaken is dropped. */
  async refresh() {
    const turn = ++this.turn;
    this.node.setAttribute("aria-busy", "true");
    if (!this.shown) this.node.replaceChildren(element("p", { class: "loading", role: "status" }, "Loading…"));
    let content;
    try {
      content = (await this.load()) ?? this.empty;
      this.shown = content !== this.empty;
    } catch (error) {
      content = failure(error, () => this.refresh());
      this.shown = false;
    }
    if (turn !== this.turn) return;
    this.node.setAttribute("aria-busy", "false");
    this.node.replaceChildren(content);
  }
}

/** A list that comes page by page. `page(cursor)` gives {entries, next}, elements and the cursor of the next page. */
export class PagedList {
  constructor(page, { more = "More", empty, ...attributes } = {}) {
    this.page = page;
    this.words = more;
    this.attributes = attributes;
    this.first = new Loaded(() => this.start(), empty);
    this.node = this.first.node;
  }

  refresh() {
    return this.first.refresh();
  }

  async start() {
    const { entries, next } = await this.page(null);
    if (!entries.length && !next) return null;
    const list = element("ul", this.attributes, ...entries);
    const rest = element("div", { class: "rest" });
    this.offer(list, rest, next);
    return element("div", {}, list, rest);
  }

  /** The button for the next page. */
  offer(list, rest, next) {
    if (!next) return rest.replaceChildren();
    const go = async () => {
      const following = await this.page(next);
      list.append(...following.entries);
      this.offer(list, rest, following.next);
      (following.entries[0]?.querySelector("button, summary, a") ?? rest.querySelector("button"))?.focus();
    };
    const ask = () => go().catch((error) => rest.replaceChildren(failure(error, ask)));
    rest.replaceChildren(button(this.words, (event) => {
      event.currentTarget.disabled = true;
      ask();
    }));
  }
}
