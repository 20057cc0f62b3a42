// The same message, answered with the summary, the history or nothing: a column for each.

import { Problem } from "../api.js";
import { button, checkbox, count, element, field, guarded } from "../dom.js";

const PROFILE = "profile"; // the stand-in that is listed while there is no engine
const MODES = {
  none: "Nothing",
  summary: "The summary",
  ica: "History in context",
  pba: "Preference directions",
  direct: "Recent history",
};

export class ChatCompare {
  constructor(api, user) {
    this.api = api;
    this.user = user;
    this.model = null;
    this.columns = new Map();
    this.boxes = Object.keys(MODES).map((mode) => checkbox(mode, { value: mode, checked: true }));
    this.text = element("textarea", { rows: 2, required: true, autocomplete: "off" });
    this.send = element("button", { type: "submit", disabled: true }, "Send");
    this.stop = button("Stop", () => this.close(), { hidden: true });
    this.anew = button("New conversation", () => this.clear(), { hidden: true });
    this.off = element("p", { class: "hint", role: "status" }, "Looking for a language model…");
    this.board = element("div", { class: "board" });
    const form = element("form", { autocomplete: "off" }, this.off,
      element("fieldset", {}, element("legend", {}, "Answer from"), element("div", { class: "checks" }, ...this.boxes)),
      field("Message", this.text), element("div", { class: "row" }, this.send, this.stop, this.anew));
    form.onsubmit = guarded(this.send, () => this.ask());
    this.node = element("div", {}, form, this.board);
  }

  close() {
    this.talking?.abort();
  }

  async open() {
    try {
      const models = await this.api.json("GET", "/v1/models");
      this.model = models.data.find(({ id }) => id !== PROFILE)?.id ?? null;
      this.off.textContent = this.model ? `Answered by ${this.model}.`
        : "No language model engine answers, so there is no chat now. Selection and ranking work without one.";
    } catch (error) {
      this.off.textContent = error.message;
    }
    this.send.disabled = this.model === null;
  }

  clear() {
    this.close();
    this.columns.clear();
    this.board.replaceChildren();
    this.anew.hidden = true;
  }

  async ask() {
    const text = this.text.value.trim();
    const modes = this.boxes.map((box) => box.firstChild).filter(({ checked }) => checked).map(({ value }) => value);
    this.talking = new AbortController();
    this.stop.hidden = this.anew.hidden = false;
    await Promise.all(modes.map((mode) => this.answer(this.column(mode), mode, text)));
    this.stop.hidden = true;
    this.text.value = "";
  }

  column(mode) {
    if (!this.columns.has(mode)) {
      const log = element("ol", { class: "chat" });
      const node = element("section", { class: "column-card", "aria-label": mode },
        element("h3", {}, MODES[mode], " ", element("small", {}, mode)), log);
      this.columns.set(mode, { log, messages: [] });
      this.board.append(node);
    }
    return this.columns.get(mode);
  }

  async answer({ log, messages }, mode, text) {
    const content = element("span", {});
    const used = element("small", {}, "writing…");
    log.append(element("li", { class: "user" }, text), element("li", {}, content, used));
    const question = { role: "user", content: text };
    try {
      await this.stream([...messages, question], mode, content, used);
      messages.push(question, { role: "assistant", content: content.textContent });
    } catch (error) {
      used.textContent = error.name === "AbortError" ? "stopped" : error.message;
      used.classList.toggle("problem", error.name !== "AbortError");
    }
  }

  async stream(messages, mode, content, used) {
    const body = { model: this.model, messages, stream: true, user: this.user, personalization: { mode } };
    const started = performance.now();
    let version = null;
    const opened = (headers) => (version = headers.get("X-AlignX-Summary-Version"));
    for await (const { data } of this.api.events("POST", "/v1/chat/completions", { body, opened, signal: this.talking.signal })) {
      if (data === "[DONE]") break;
      const piece = JSON.parse(data);
      if (piece.error) throw new Problem(200, piece);
      content.append(piece.choices?.[0]?.delta?.content || "");
    }
    const words = content.textContent.split(/\s+/).filter(Boolean).length;
    const read = version === null ? "" : `summary version ${version} · `;
    used.textContent = `${read}${count(words, "word")} · ${((performance.now() - started) / 1000).toFixed(1)} s`;
  }
}
