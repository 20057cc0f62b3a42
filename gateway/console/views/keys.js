// API keys, user tokens and the audit log. An admin key sees those of all tenants.

import { button, card, element, field, options } from "../dom.js";
import { AuditLog } from "../tenant/audit_log.js";
import { keyEntry } from "../tenant/key_entry.js";
import { newKeyForm } from "../tenant/new_key.js";
import { tokenForm } from "../tenant/user_token.js";
import { PagedList, note } from "../parts/states.js";

const PAGE = 25;

export function open(page, { api, session }) {
  const secret = element("div", { class: "secret-place" });
  const tenant = element("select", {}, ...options([["", "All tenants"]]));
  const list = new PagedList(async (after) => {
    const query = new URLSearchParams({ limit: PAGE });
    if (after) query.set("after", after);
    if (tenant.value) query.set("tenant", tenant.value);
    const { keys, next } = await api.json("GET", `/admin/keys?${query}`);
    return { entries: keys.map((key) => keyEntry(api, key, { secret, own: key.id === session.keyId, changed })), next };
  }, { class: "keys", more: "More keys", empty: note("No keys") });
  const audit = new AuditLog(api, tenant);
  const changed = () => {
    list.refresh();
    audit.refresh();
  };
  const form = element("div", { hidden: true });
  const opener = button("Make a key", () => {
    form.hidden = !form.hidden;
    opener.setAttribute("aria-expanded", String(!form.hidden));
    if (!form.hidden) form.querySelector("input")?.focus();
  }, { class: "", "aria-expanded": "false" });
  tenant.onchange = changed;
  fillTenants(api, tenant);
  form.append(newKeyForm(api, secret, () => {
    fillTenants(api, tenant); // the key may be the first of its tenant
    changed();
  }));
  page.append(
    secret,
    card("API keys", element("div", { class: "row end" }, field("Tenant", tenant), opener), form, list.node),
    card("Mint a user token", tokenForm(api)),
    card("Audit log", audit.node));
  list.refresh();
  audit.refresh();
}

/** All tenants, page by page; without them the choice stays at all. */
async function fillTenants(api, select) {
  const names = [];
  let after = "";
  do {
    const page = await api.json("GET", `/admin/tenants?limit=1000${after}`).catch(() => ({ tenants: [] }));
    names.push(...page.tenants.map(({ tenant }) => [tenant, tenant]));
    after = page.next ? `&after=${encodeURIComponent(page.next)}` : "";
  } while (after);
  select.replaceChildren(...options([["", "All tenants"], ...names], select.value));
}
