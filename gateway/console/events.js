// The form by which an event is sent; its fields follow the event's type.

import { Api, idempotencyKey } from "./api.js";
import { byId, element, guarded, lines, notify } from "./dom.js";

// [field of the interaction, label, kind]; a "?" in the kind makes it optional.
const TYPES = {
  comparison: [["query", "Question", "text?"], ["chosen", "Preferred", "area"], ["rejected", "To this", "area"]],
  click: [["query", "Question", "text?"], ["clicked", "Clicked", "text"], ["shown", "Shown, one a line", "lines?"]],
  rating: [["item", "Item", "text"], ["value", "Stars, 1 to 5", "number"], ["review", "Review", "area?"]],
  purchase: [["item", "Bought", "text"], ["considered", "Considered, one a line", "lines?"]],
  post: [["prompt", "In answer to", "text?"], ["text", "What they wrote", "area"]],
  statement: [["text", "What they say of themselves", "area"]],
  demographic: [["text", "A fact about them, as a sentence", "area"]],
};

export class EventForm {
  constructor(api, user, sent) {
    this.api = api;
    this.user = user;
    this.sent = sent; // called when an event is stored
  }

  open() {
    const choice = byId("event-type");
    choice.replaceChildren(...Object.keys(TYPES).map((type) => element("option", { value: type }, type)));
    choice.onchange = () => this.showFields();
    byId("event").onsubmit = guarded(byId("event").querySelector("button"), () => this.send());
    this.showFields();
  }

  showFields() {
    const fields = TYPES[byId("event-type").value].map(([name, label, kind]) => {
      const id = `event-${name}`;
      const required = !kind.endsWith("?");
      const tag = kind.startsWith("area") || kind.startsWith("lines") ? "textarea" : "input";
      const attributes = { id, required };
      if (tag === "textarea") attributes.rows = "2";
      if (kind === "number") Object.assign(attributes, { type: "number", min: "1", max: "5", step: "0.5" });
      return element("div", { class: "field" }, element("label", { for: id }, label), element(tag, attributes));
    });
    byId("event-fields").replaceChildren(...fields);
  }

  async send() {
    const type = byId("event-type").value;
    const event = { type, source: "console" };
    for (const [name, , kind] of TYPES[type]) {
      const value = byId(`event-${name}`).value.trim();
      if (!value) continue;
      if (kind.startsWith("lines")) event[name] = lines(`event-${name}`);
      else event[name] = kind === "number" ? Number(value) : value;
    }
    const options = { body: { events: [event] }, headers: { "Idempotency-Key": idempotencyKey() } };
    await this.api.json("POST", Api.user(this.user, "/events"), options);
    this.showFields();
    notify("Stored. The summary follows.", true);
    this.sent();
  }
}
