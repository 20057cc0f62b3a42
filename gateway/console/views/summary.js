// What a user prefers: the text as it is written, what each sentence rests on, and a form for what happened.

import { Api } from "../api.js";
import { button, card, count, element, facts, guarded, notify, percent, when } from "../dom.js";
import { editSummary } from "../panels/edit_summary.js";
import { EventForm } from "../panels/event_form.js";
import { ClaimList } from "../parts/claims.js";
import { LiveSummary } from "../parts/live_summary.js";

export function open(page, { api, user }) {
  const panel = new SummaryPanel(api, user);
  const form = new EventForm(api, user, () => panel.unknown && panel.live.follow());
  page.append(element("div", { class: "columns" }, panel.node, element("div", { class: "column" },
    card("About this version", panel.facts), card("Tell what happened", form.node))));
  panel.live.follow();
  return () => panel.live.close();
}

class SummaryPanel {
  constructor(api, user) {
    this.api = api;
    this.user = user;
    this.claims = new ClaimList(api, user);
    this.current = null; // the preferences as last shown
    this.draft = "";
    this.unknown = false;
    this.state = element("p", { id: "state", class: "state", role: "status" }, "connecting…");
    this.text = element("div", { id: "summary", class: "summary empty", "aria-live": "polite", "aria-busy": "true" }, "Loading…");
    this.facts = element("div", {}, element("p", { class: "hint" }, "Loading…"));
    this.edit = button("Edit", () => this.startEdit());
    this.rebuild = button("Rebuild from the whole history");
    this.rebuild.onclick = guarded(this.rebuild, () => this.startRebuild());
    this.actions = element("div", { class: "row", hidden: true }, this.edit, this.rebuild);
    this.node = card("Preferences", this.text, this.claims.node, this.actions);
    this.node.prepend(element("div", { class: "row spread" }, this.node.firstChild, this.state));
    this.live = new LiveSummary(api, user, {
      pending: ({ pending }) => this.showPending(pending),
      delta: ({ text }) => this.showDraft(text),
      version: (current) => this.showVersion(current),
      changed: () => this.showState("the user's choices have changed", true),
      error: (problem) => this.showFailure(problem),
      unknown: () => this.showUnknown(),
      refused: (error) => this.showRefused(error),
      connecting: (problem) => this.showBroken(problem),
    });
  }

  showPending(pending) {
    this.showState(`${pending} waiting, writing`, true);
    this.draft = "";
  }

  showDraft(text) {
    this.draft += text;
    this.text.className = "summary draft";
    this.text.setAttribute("aria-busy", "true");
    this.text.textContent = this.draft;
  }

  showVersion(current) {
    this.current = current;
    this.unknown = false;
    this.actions.hidden = false;
    this.showText(current.text, "Nothing to say yet.");
    this.claims.show(current.claims ?? []);
    const waiting = current.pending ? `${current.pending} waiting for: ${current.waiting_for ?? "an update"}` : "up to date";
    this.showState(waiting, current.pending > 0);
    const quality = Object.entries(current.quality ?? {}).map(([scorer, { accuracy, comparisons }]) =>
      [`Predicted by the ${scorer}`, `${percent(accuracy)} of ${count(comparisons, "pair")} of chosen and passed over`]);
    this.facts.replaceChildren(facts([
      ["Version", current.version || "none yet: the fast profile"],
      ["Written by", current.source],
      ["Written", when(current.created_at)],
      ["Events", current.events_total.toLocaleString()],
      ...quality,
      ["Change", current.changed ? `${when(current.changed.since)}: ${current.changed.text || "choices turned"}` : null],
    ]));
  }

  /** What an update wrote before it failed is no summary. */
  showFailure({ detail, title }) {
    if (this.current) this.showText(this.current.text, "Nothing to say yet.");
    const reason = detail || title;
    this.showState(`an update failed and will be tried again${reason ? `: ${reason}` : ""}`);
  }

  showText(text, otherwise) {
    this.text.className = text ? "summary" : "summary empty";
    this.text.setAttribute("aria-busy", "false");
    this.text.textContent = text || otherwise;
  }

  showUnknown() {
    this.unknown = true;
    this.actions.hidden = true;
    this.showText("", "No history is kept for this user. Send a first event.");
    this.facts.replaceChildren(element("p", { class: "hint" }, "Nothing yet."));
    this.claims.show([]);
    this.showState("unknown user");
  }

  showRefused(error) {
    this.showText("", error.message);
    this.facts.replaceChildren(element("p", { class: "hint" }, "This key may not read it."));
    this.showState("not shown");
  }

  /** The stream has ended, or never began: what was read stays. */
  showBroken(problem) {
    if (problem && !this.current) {
      this.showText("", problem.message);
      this.facts.replaceChildren(element("p", { class: "hint" }, "Nothing was read yet."));
    }
    this.showState("connecting…");
  }

  showState(text, writing = false) {
    this.state.textContent = text;
    this.state.classList.toggle("writing", writing);
  }

  async startEdit() {
    const saved = await editSummary(this.api, this.user);
    if (!saved) return;
    this.showVersion(saved);
    notify("Saved.", true);
  }

  async startRebuild() {
    await this.api.json("POST", Api.user(this.user, "/preferences/rebuild"));
    notify("The summary is being written anew from the whole history.", true);
  }
}
