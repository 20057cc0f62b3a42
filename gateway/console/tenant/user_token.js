// The form that mints a token for one user, such as a page or an agent holds.

import { scopes } from "../api.js";
import { checkbox, element, field, guarded, options } from "../dom.js";
import { showFieldErrors } from "../parts/field_errors.js";
import { showSecret } from "../parts/secret.js";
import { Loaded } from "../parts/states.js";

const LIFETIMES = [["600", "10 minutes"], ["60", "1 minute"], ["1800", "30 minutes"], ["3600", "1 hour"]];

export function tokenForm(api) {
  const form = new Loaded(async () => build(api, (await scopes()).ofUsers));
  form.refresh();
  return form.node;
}

function build(api, allowed) {
  const user = element("input", { required: true, maxlength: 256, autocomplete: "off", spellcheck: "false" });
  const lifetime = element("select", {}, ...options(LIFETIMES));
  const boxes = allowed.map((scope) => checkbox(scope, { value: scope, checked: scope === "preferences:read" }));
  const scopeSet = element("fieldset", { id: "token-scopes" }, element("legend", {}, "Scopes"),
    element("div", { class: "checks" }, ...boxes));
  const submit = element("button", { type: "submit" }, "Mint a token");
  const secret = element("div", {});
  const form = element("form", { autocomplete: "off" },
    element("p", { class: "hint" }, "It makes the calls of its scopes for this user of this key's tenant and ends with the key."),
    element("div", { class: "pair" }, field("User of the token", user), field("Lasts", lifetime)), scopeSet, submit);
  form.onsubmit = guarded(submit, async () => {
    const body = { user: user.value, expires_in_s: Number(lifetime.value) };
    body.scopes = boxes.map((box) => box.firstChild).filter(({ checked }) => checked).map(({ value }) => value);
    const places = { user, scopes: scopeSet };
    showFieldErrors(places, []);
    try {
      const minted = await api.json("POST", "/v1/tokens", { body });
      showSecret(secret, "User token", minted.token, "The gateway keeps no token.");
    } catch (error) {
      if (!showFieldErrors(places, error.errors ?? [])) throw error;
    }
  });
  return element("div", {}, form, secret);
}
