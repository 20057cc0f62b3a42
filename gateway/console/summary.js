// The summary as it is written, its versions, and what the user can do with them.

import { Api } from "./api.js";
import { ClaimList } from "./claims.js";
import { byId, element, guarded, notify, percent, showFacts, when } from "./dom.js";

const PAGE = 10;

export class SummaryPanel {
  constructor(api, user, changed) {
    this.api = api;
    this.user = user;
    this.claims = new ClaimList(api, user);
    this.changed = changed; // called when a new version is there
    this.following = null;
    this.version = 0;
    this.current = null; // the preferences as last shown
    this.oldest = null;
  }

  open() {
    byId("summary-user").textContent = this.user;
    byId("edit").onclick = guarded(byId("edit"), () => this.startEdit());
    byId("edit-cancel").onclick = () => this.endEdit();
    byId("editor").onsubmit = guarded(byId("editor").querySelector("button"), () => this.saveEdit());
    byId("rebuild").onclick = guarded(byId("rebuild"), () => this.rebuild());
    byId("versions-more").onclick = guarded(byId("versions-more"), () => this.listVersions(this.oldest));
    this.endEdit();
    this.follow();
  }

  close() {
    this.following?.abort();
    this.following = null;
  }

  /** Follows the live stream until `close`, and comes back when the connection breaks. */
  async follow() {
    this.close();
    const following = new AbortController();
    this.following = following;
    let lastId;
    let delay = 500;
    while (!following.signal.aborted) {
      try {
        const headers = lastId ? { "Last-Event-ID": lastId } : {};
        const path = Api.user(this.user, "/preferences/stream");
        for await (const event of this.api.events("GET", path, { headers, signal: following.signal })) {
          lastId = event.id || lastId;
          delay = 500;
          this.show(event.event, JSON.parse(event.data));
        }
      } catch (error) {
        if (following.signal.aborted) return;
        if (error.code === "user_unknown") return this.showUnknown();
        if (error.status === 401 || error.status === 403 || error.status === 400) return notify(error);
      }
      this.showState("connecting…");
      await new Promise((resume) => setTimeout(resume, delay));
      delay = Math.min(delay * 2, 15000);
    }
  }

  show(kind, data) {
    const text = byId("summary");
    if (kind === "pending") {
      this.showState(`${data.pending} waiting, writing`, true);
      this.draft = "";
    } else if (kind === "delta") {
      this.draft = (this.draft || "") + data.text;
      text.className = "summary draft";
      text.setAttribute("aria-busy", "true");
      text.textContent = this.draft;
    } else if (kind === "version") {
      this.showVersion(data);
    } else if (kind === "changed") {
      this.showState("the user's choices have changed", true);
    } else if (kind === "error") {
      // What an update wrote before it failed is no summary.
      if (this.current) this.showText(this.current);
      const reason = data.detail || data.title;
      this.showState(`an update failed and will be tried again${reason ? `: ${reason}` : ""}`);
    }
  }

  showVersion(current) {
    this.version = current.version;
    this.current = current;
    this.showText(current);
    this.claims.show(current.claims ?? []);
    this.showState(current.pending ? `${current.pending} waiting for: ${current.waiting_for ?? "an update"}` : "up to date", current.pending > 0);
    const facts = [
      ["Version", current.version || "none yet: the fast profile"],
      ["Written by", current.source],
      ["Written", when(current.created_at)],
      ["Events", current.events_total],
    ];
    for (const [scorer, quality] of Object.entries(current.quality || {})) {
      facts.push([`Predicted (${scorer})`, `${percent(quality.accuracy)} of ${quality.comparisons} choices`]);
    }
    showFacts(byId("facts"), facts);
    this.listVersions(null).catch(notify);
    this.changed();
  }

  showText(current) {
    const text = byId("summary");
    text.className = current.text ? "summary" : "summary empty";
    text.setAttribute("aria-busy", "false");
    text.textContent = current.text || "Nothing to say yet.";
  }

  showUnknown() {
    const text = byId("summary");
    text.className = "summary empty";
    text.textContent = "No history is kept for this user. Send a first event.";
    byId("facts").replaceChildren();
    this.claims.show([]);
    byId("versions").replaceChildren();
    byId("versions-more").hidden = true;
    this.showState("unknown user");
  }

  showState(text, writing = false) {
    byId("state").textContent = text;
    byId("state").classList.toggle("writing", writing);
  }

  // --- versions ---

  async listVersions(before) {
    const query = `?limit=${PAGE}${before ? `&before=${before}` : ""}`;
    const page = await this.api.json("GET", Api.user(this.user, `/preferences/versions${query}`));
    const entries = page.versions.map((version) => this.versionEntry(version));
    if (before) byId("versions").append(...entries);
    else byId("versions").replaceChildren(...entries);
    this.oldest = page.next;
    byId("versions-more").hidden = !page.next;
  }

  versionEntry(version) {
    const current = version.version === this.version;
    const origin = version.restored_from ? `restored from ${version.restored_from}` : version.source;
    const events = version.events.count === 1 ? "1 event" : `${version.events.count} events`;
    const row = element("div", { class: "row" },
      element("span", {}, `Version ${version.version}`),
      element("span", {}, `${origin} · ${when(version.created_at)} · ${events}`));
    const entry = element("li", { class: current ? "current" : undefined }, row);
    if (version.parent) {
      const compare = element("button", { class: "quiet", type: "button", "aria-expanded": "false" }, "Changes");
      compare.onclick = guarded(compare, () => this.toggleDiff(entry, compare, version));
      row.append(compare);
    }
    if (!current) {
      const restore = element("button", { class: "quiet", type: "button" }, "Restore");
      restore.onclick = guarded(restore, () => this.restore(version.version));
      row.append(restore);
    }
    return entry;
  }

  async toggleDiff(entry, button, version) {
    const shown = entry.querySelector(".diff");
    button.setAttribute("aria-expanded", String(!shown));
    if (shown) return shown.remove();
    const query = `?from=${version.parent}&to=${version.version}`;
    const diff = await this.api.json("GET", Api.user(this.user, `/preferences/diff${query}`));
    const list = element("ul", { class: "diff" },
      ...diff.removed.map((line) => element("li", { class: "removed" }, element("del", {}, line))),
      ...diff.added.map((line) => element("li", { class: "added" }, element("ins", {}, line))));
    if (!list.childElementCount) list.append(element("li", {}, "The same text."));
    entry.append(list);
  }

  // --- changes ---

  async etag() {
    const answer = await this.api.fetch("GET", Api.user(this.user, "/preferences"));
    return { etag: answer.headers.get("ETag"), current: await answer.json() };
  }

  async restore(version) {
    const { etag } = await this.etag();
    const options = { body: { version }, headers: { "If-Match": etag } };
    await this.api.json("POST", Api.user(this.user, "/preferences/rollback"), options);
    await this.refresh(`Version ${version} is current again.`);
  }

  async startEdit() {
    const { etag, current } = await this.etag();
    this.editing = etag;
    byId("edit-text").value = current.text;
    byId("editor").hidden = false;
    byId("summary-actions").hidden = true;
    byId("edit-text").focus();
  }

  endEdit() {
    byId("editor").hidden = true;
    byId("summary-actions").hidden = false;
  }

  async saveEdit() {
    const options = { body: { text: byId("edit-text").value }, headers: { "If-Match": this.editing } };
    await this.api.json("PUT", Api.user(this.user, "/preferences"), options);
    this.endEdit();
    await this.refresh("Saved.");
  }

  async rebuild() {
    await this.api.json("POST", Api.user(this.user, "/preferences/rebuild"));
    notify("The summary is being written anew from the whole history.", true);
  }

  async refresh(message) {
    const { current } = await this.etag();
    this.showVersion(current);
    notify(message, true);
  }
}
