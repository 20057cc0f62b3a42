// Versions of a summary and drafts that were refused, newest first; any two versions word by word.

import { Api } from "../api.js";
import { button, card, element, field, notify, options } from "../dom.js";
import { editSummary, readCurrent } from "../panels/edit_summary.js";
import { draftEntry, versionEntry } from "../panels/version_entry.js";
import { ask } from "../parts/dialog.js";
import { PagedList, note } from "../parts/states.js";
import { diffView } from "../parts/text_change.js";

const PAGE = 10;

export function open(page, { api, user }) {
  const timeline = new Timeline(api, user);
  page.append(timeline.actions, timeline.compare, card("Versions", timeline.list.node));
  timeline.list.refresh();
}

class Timeline {
  constructor(api, user) {
    this.api = api;
    this.user = user;
    this.versions = new Map(); // those read so far, by number
    this.drafts = [];
    this.compare = element("div", { hidden: true });
    this.toggle = button("Compare two versions", () => this.openCompare(), { "aria-expanded": "false" });
    this.actions = element("div", { class: "row", hidden: true }, button("Edit the summary", () => this.edit()), this.toggle);
    this.list = new PagedList((before) => this.read(before), {
      class: "timeline",
      more: "Older versions",
      empty: note("No version yet", "Until one is written, the fast profile speaks for the user."),
    });
  }

  async read(before) {
    if (!before) await this.begin();
    const query = `?limit=${PAGE}${before ? `&before=${before}` : ""}`;
    const { versions, next } = await this.api.json("GET", Api.user(this.user, `/preferences/versions${query}`));
    for (const version of versions) this.versions.set(version.version, version);
    const moments = versions.map((version) => ({ at: version.created_at, node: this.entry(version) }));
    const oldest = next ? versions.at(-1).created_at : "";
    const drafts = this.drafts.filter(({ created_at: at }) => at >= oldest);
    this.drafts = this.drafts.filter(({ created_at: at }) => at < oldest);
    moments.push(...drafts.map((draft) => ({ at: draft.created_at, node: draftEntry(draft) })));
    moments.sort((a, b) => (a.at < b.at ? 1 : -1));
    return { entries: moments.map(({ node }) => node), next };
  }

  async begin() {
    this.versions.clear();
    const current = await this.api.json("GET", Api.user(this.user, "/preferences"));
    this.current = current.version;
    this.actions.hidden = false; // of a user who is known
    this.drafts = (await this.api.json("GET", Api.user(this.user, "/preferences/rejected"))).drafts;
  }

  entry(version) {
    return versionEntry(version, {
      current: version.version === this.current,
      parent: () => this.version(version.parent),
      restore: () => this.restore(version),
    });
  }

  async version(number) {
    if (!this.versions.has(number)) {
      const path = Api.user(this.user, `/preferences/versions/${number}`);
      this.versions.set(number, await this.api.json("GET", path));
    }
    return this.versions.get(number);
  }

  async restore({ version }) {
    const done = await ask({
      title: `Make version ${version} current again?`,
      text: "A new version with its text is added. Nothing of the history is lost.",
      action: `Restore version ${version}`,
      run: async () => {
        const { etag } = await readCurrent(this.api, this.user);
        const sent = { body: { version }, headers: { "If-Match": etag } };
        await this.api.json("POST", Api.user(this.user, "/preferences/rollback"), sent);
      },
    });
    if (done) await this.refresh(`The text of version ${version} is current again.`);
  }

  async edit() {
    if (await editSummary(this.api, this.user)) await this.refresh("Saved as a new version.");
  }

  async refresh(message) {
    await this.list.refresh();
    notify(message, true);
  }

  openCompare() {
    const numbers = [...this.versions.keys()].sort((a, b) => b - a);
    this.compare.hidden = !this.compare.hidden;
    this.toggle.setAttribute("aria-expanded", String(!this.compare.hidden));
    if (this.compare.hidden) return;
    if (numbers.length < 2) {
      return this.compare.replaceChildren(card("Compare", note("There are no two versions to compare")));
    }
    const names = numbers.map((number) => [String(number), `Version ${number}`]);
    const from = element("select", {}, ...options(names, String(numbers[1])));
    const to = element("select", {}, ...options(names, String(numbers[0])));
    const result = element("div", { role: "status" });
    const show = () => result.replaceChildren(
      diffView(this.versions.get(Number(from.value)).text, this.versions.get(Number(to.value)).text));
    from.onchange = to.onchange = show;
    this.compare.replaceChildren(card("Compare",
      element("div", { class: "pair" }, field("From", from), field("To", to)), result));
    show();
  }
}
