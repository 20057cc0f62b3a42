// The form that makes an API key.

import { scopes } from "../api.js";
import { button, checkbox, element, field, guarded } from "../dom.js";
import { showFieldErrors } from "../parts/field_errors.js";
import { showSecret } from "../parts/secret.js";
import { Loaded } from "../parts/states.js";

const DAY_MS = 86400000;

export function newKeyForm(api, secret, made) {
  const form = new Loaded(async () => build(api, (await scopes()).all, secret, made));
  form.refresh();
  return form.node;
}

function build(api, all, secret, made) {
  const controls = {
    name: element("input", { required: true, maxlength: 100, autocomplete: "off" }),
    tenant: element("input", { required: true, maxlength: 64, autocomplete: "off", spellcheck: "false" }),
    expires_at: element("input", { type: "number", min: 1, max: 3650, autocomplete: "off" }),
    rate: element("input", { type: "number", min: 0.001, step: "any", autocomplete: "off" }),
    burst: element("input", { type: "number", min: 1, autocomplete: "off" }),
  };
  const boxes = all.map((scope) => checkbox(scope, { value: scope, checked: scope !== "admin" }));
  const set = (checked) => boxes.forEach((box) => (box.firstChild.checked = checked(box.firstChild.value)));
  const presets = element("div", { class: "row" },
    button("All but admin", () => set((scope) => scope !== "admin")),
    button("Read only", () => set((scope) => scope.endsWith(":read"))),
    button("None", () => set(() => false)));
  const submit = element("button", { type: "submit" }, "Make the key");
  const scopeSet = element("fieldset", { id: "key-scopes" }, element("legend", {}, "Scopes"), presets,
    element("div", { class: "checks" }, ...boxes));
  const form = element("form", { class: "inset", autocomplete: "off" },
    element("div", { class: "pair" }, field("Name", controls.name), field("Tenant", controls.tenant)),
    scopeSet,
    element("div", { class: "pair three" },
      field("Expires after, in days", controls.expires_at, "Empty: never"),
      field("Requests a second", controls.rate, "Empty: the deployment's"),
      field("At once", controls.burst, "Empty: the deployment's")),
    submit);
  form.onsubmit = guarded(submit, async () => {
    const body = { name: controls.name.value, tenant: controls.tenant.value };
    body.scopes = boxes.map((box) => box.firstChild).filter(({ checked }) => checked).map(({ value }) => value);
    if (controls.expires_at.value) body.expires_at = new Date(Date.now() + controls.expires_at.value * DAY_MS).toISOString();
    for (const name of ["rate", "burst"]) if (controls[name].value) body[name] = Number(controls[name].value);
    const places = { ...controls, scopes: scopeSet };
    showFieldErrors(places, []);
    try {
      const key = await api.json("POST", "/admin/keys", { body });
      showSecret(secret, `Key ${key.name}`, key.key);
      made();
    } catch (error) {
      if (!showFieldErrors(places, error.errors ?? [])) throw error;
    }
  });
  return form;
}
