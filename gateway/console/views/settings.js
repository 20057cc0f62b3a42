// A tenant's settings, as a form made of their schema.

import { openApi } from "../api.js";
import { button, card, element, facts, field, guarded, notify, options } from "../dom.js";
import { ask } from "../parts/dialog.js";
import { SchemaForm } from "../parts/schema_form.js";
import { Loaded, note } from "../parts/states.js";

export function open(page, { api, session }) {
  const tenant = element("select", {});
  const form = new Loaded(() => build(api, tenant.value, () => form.refresh()));
  const whole = new Loaded(async () => {
    const { names, own } = await tenants(api, session.keyId);
    if (!names.length) return null;
    tenant.replaceChildren(...options(names.map((name) => [name, name]), own));
    form.refresh();
    return element("div", { class: "stack" }, field("Tenant", tenant), form.node);
  }, note("No tenant yet", "A tenant comes into being with its first key."));
  tenant.onchange = () => form.refresh();
  page.append(card("Settings of a tenant", whole.node));
  whole.refresh();
}

async function tenants(api, keyId) {
  const names = [];
  let after = "";
  do {
    const page = await api.json("GET", `/admin/tenants?limit=1000${after}`);
    names.push(...page.tenants.map(({ tenant }) => tenant));
    after = page.next ? `&after=${encodeURIComponent(page.next)}` : "";
  } while (after);
  const { keys } = await api.json("GET", "/admin/keys?limit=1000");
  return { names, own: keys.find(({ id }) => id === keyId)?.tenant };
}

async function build(api, tenant, again) {
  const path = `/admin/tenants/${encodeURIComponent(tenant)}/settings`;
  const [description, view] = await Promise.all([openApi(), api.json("GET", path)]);
  const schema = description.components.schemas.TenantSettings;
  const change = (changes) => api.json("PATCH", path, { body: changes });
  const fields = new SchemaForm(schema, view.settings, view.overridden, async (name) => {
    const changed = await change({ [name]: null });
    notify(`${name} has the deployment's value again.`, true);
    return changed.settings[name];
  });
  const save = element("button", { type: "submit" }, "Save");
  const reset = button("Give all the deployment's values", async () => {
    const done = await ask({
      title: `Reset the settings of ${tenant}?`,
      text: "Every setting has the deployment's value again.",
      action: "Reset all",
      danger: true,
      run: () => api.json("PUT", path, { body: {} }),
    });
    if (!done) return;
    again();
    notify("All settings have the deployment's values.", true);
  });
  const spent = view.spent ? facts([
    ["Tokens today", view.spent.day.toLocaleString()], ["Tokens this month", view.spent.month.toLocaleString()],
  ]) : null;
  const form = element("form", { class: "settings", autocomplete: "off", novalidate: true }, spent, fields.node,
    element("div", { class: "row" }, save, reset));
  form.onsubmit = guarded(save, async () => {
    const changes = fields.changes();
    if (!Object.keys(changes).length) return notify("Nothing has changed.", true);
    fields.showErrors([]);
    try {
      const changed = await change(changes);
      fields.accept(changed.settings, changed.overridden);
      notify("Saved. Every process follows within a second.", true);
    } catch (error) {
      if (!fields.showErrors(error.errors ?? [])) throw error;
      notify("Not saved: see the fields marked below.");
    }
  });
  return form;
}
