// The form by which an event is sent; its fields follow the event's type.

import { Api, idempotencyKey } from "../api.js";
import { element, field, guarded, lines, notify, options } from "../dom.js";

// [field of the interaction, label, kind]; a "?" in the kind makes it optional.
const FORMS = {
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
    this.type = element("select", {}, ...options(Object.keys(FORMS).map((type) => [type, type])));
    this.type.onchange = () => this.showFields();
    this.fields = element("div", { class: "fields" });
    const submit = element("button", { type: "submit" }, "Send event");
    this.node = element("form", { autocomplete: "off" }, field("Event", this.type), this.fields, submit);
    this.node.onsubmit = guarded(submit, () => this.send());
    this.showFields();
  }

  showFields() {
    this.controls = FORMS[this.type.value].map(([name, label, kind]) => {
      const required = !kind.endsWith("?");
      const long = kind.startsWith("area") || kind.startsWith("lines");
      const attributes = { required, autocomplete: "off", rows: long ? 2 : undefined };
      if (kind === "number") Object.assign(attributes, { type: "number", min: 1, max: 5, step: 0.5 });
      return { name, kind, label, control: element(long ? "textarea" : "input", attributes) };
    });
    this.fields.replaceChildren(...this.controls.map(({ label, kind, control }) =>
      field(kind.endsWith("?") ? `${label} (optional)` : label, control)));
  }

  async send() {
    const event = { type: this.type.value, source: "console" };
    for (const { name, kind, control } of this.controls) {
      const value = control.value.trim();
      if (!value) continue;
      if (kind.startsWith("lines")) event[name] = lines(value);
      else event[name] = kind === "number" ? Number(value) : value;
    }
    const sent = { body: { events: [event] }, headers: { "Idempotency-Key": idempotencyKey() } };
    await this.api.json("POST", Api.user(this.user, "/events"), sent);
    this.showFields();
    notify("Stored. The summary follows.", true);
    this.sent();
  }
}
