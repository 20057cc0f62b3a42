// Who did what to which key, setting or user, and when.

import { element, field, when } from "../dom.js";
import { PagedList, note } from "../parts/states.js";

const PAGE = 20;

export class AuditLog {
  /** `tenant` is the control that names the tenant; empty for the key's own. */
  constructor(api, tenant) {
    this.user = element("input", { maxlength: 256, autocomplete: "off", spellcheck: "false" });
    this.user.onchange = () => this.refresh();
    this.list = new PagedList(async (before) => {
      const query = new URLSearchParams({ limit: PAGE });
      if (before) query.set("before", before);
      if (tenant.value) query.set("tenant", tenant.value);
      if (this.user.value) query.set("user", this.user.value);
      const { entries, next } = await api.json("GET", `/v1/audit?${query}`);
      return { entries: entries.map(auditEntry), next };
    }, { class: "audit", more: "Older entries", empty: note("No entry", "Nobody has done anything that is logged.") });
    this.node = element("div", {},
      field("Only exports and erasures of the user", this.user, "Users stand here as hashes; an id that you know finds its entries."),
      this.list.node);
  }

  refresh() {
    return this.list.refresh();
  }
}

const auditEntry = ({ at, action, target, key_id: key }) => element("li", {},
  element("span", { class: "tag plain" }, action),
  element("span", { class: "mono" }, target || "–"),
  element("small", {}, `${when(at)} · by key ${key}`));
