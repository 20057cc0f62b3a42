// What a summary is for: selection, recommendation, chat.

import { Api, Problem } from "./api.js";
import { byId, element, guarded, lines, notify, percent } from "./dom.js";

const PROFILE = "profile"; // the stand-in that is listed while there is no engine

export class UsePanel {
  constructor(api, user) {
    this.api = api;
    this.user = user;
    this.messages = [];
    this.model = null;
  }

  open() {
    const submit = (id, work) => {
      byId(id).onsubmit = guarded(byId(id).querySelector("button[type=submit]"), work);
    };
    submit("panel-select", () => this.select());
    submit("panel-recommend", () => this.recommend());
    submit("panel-chat", () => this.chat());
    byId("chat-stop").onclick = () => this.talking?.abort();
    for (const id of ["select-result", "recommend-result", "chat-log"]) byId(id).replaceChildren();
    this.findModel();
  }

  close() {
    this.talking?.abort();
  }

  async select() {
    const items = lines("select-items");
    const body = { query: byId("select-query").value, items };
    const answer = await this.api.json("POST", Api.user(this.user, "/select"), { body });
    const order = [...answer.items].sort((a, b) => b.probability - a.probability);
    byId("select-result").replaceChildren(
      ...order.map(({ index, probability }) =>
        element("div", { class: index === answer.choice ? "bar-line best" : "bar-line" },
          element("span", {}, items[index]),
          element("span", {}, percent(probability)),
          element("meter", { value: probability, "aria-label": items[index] }))),
      element("p", { class: "hint" }, method(answer)));
  }

  async recommend() {
    const candidates = lines("recommend-items");
    const explain = byId("recommend-explain").checked;
    const body = { query: byId("recommend-query").value, candidates, explain };
    const answer = await this.api.json("POST", Api.user(this.user, "/recommend"), { body });
    const ranked = answer.items.map(({ index, score, reason }) =>
      element("li", {}, candidates[index], " ", element("small", {}, reason || `score ${score.toFixed(3)}`)));
    byId("recommend-result").replaceChildren(
      element("ol", {}, ...ranked), element("p", { class: "hint" }, method(answer)));
  }

  // --- chat ---

  async findModel() {
    try {
      const models = await this.api.json("GET", "/v1/models");
      this.model = models.data.find(({ id }) => id !== PROFILE)?.id || null;
    } catch {
      this.model = null;
    }
    byId("chat-off").hidden = this.model !== null;
    byId("chat-send").disabled = this.model === null;
  }

  async chat() {
    const text = byId("chat-text").value.trim();
    const log = byId("chat-log");
    const asked = element("li", { class: "user" }, text);
    const content = element("span", {}, "");
    const reply = element("li", {}, content);
    log.append(asked, reply);
    const question = { role: "user", content: text };
    this.talking = new AbortController();
    byId("chat-stop").hidden = false;
    try {
      await this.stream([...this.messages, question], content, reply);
      this.messages.push(question, { role: "assistant", content: content.textContent });
      byId("chat-text").value = "";
    } catch (error) {
      if (!content.textContent) {
        asked.remove();
        reply.remove();
      }
      throw error;
    } finally {
      byId("chat-stop").hidden = true;
    }
  }

  async stream(messages, content, reply) {
    const mode = byId("chat-mode").value;
    const body = { model: this.model, messages, stream: true, user: this.user, personalization: { mode } };
    const opened = (headers) => {
      const version = headers.get("X-AlignX-Summary-Version");
      const used = version === null ? `mode ${mode}` : `mode ${mode}, summary version ${version}`;
      reply.append(element("small", {}, used));
    };
    const options = { body, opened, signal: this.talking.signal };
    for await (const { data } of this.api.events("POST", "/v1/chat/completions", options)) {
      if (data === "[DONE]") return;
      const piece = JSON.parse(data);
      if (piece.error) throw new Problem(200, piece);
      content.append(piece.choices?.[0]?.delta?.content || "");
      byId("chat-log").scrollTop = byId("chat-log").scrollHeight;
    }
  }
}

const SCORERS = { profile: "the fast profile", engine: "the engine", fused: "the engine and the fast profile" };

function method(answer) {
  const read = answer.version ? `, which read summary version ${answer.version}` : "";
  return `Scored by ${SCORERS[answer.method] || answer.method}${read}.`;
}

/** Tabs that arrow keys move between. */
export function setUpTabs(list) {
  const tabs = [...list.querySelectorAll("[role=tab]")];
  const choose = (chosen) => {
    for (const tab of tabs) {
      const selected = tab === chosen;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !selected;
    }
    notify("");
  };
  list.addEventListener("click", (event) => tabs.includes(event.target) && choose(event.target));
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    choose(next);
    next.focus();
  });
}
