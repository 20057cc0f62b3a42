// One API key: what it may do, until when and how fast; rotation and revocation.

import { button, element, facts, field, notify, options, when } from "../dom.js";
import { ask } from "../parts/dialog.js";
import { showSecret } from "../parts/secret.js";

const OVERLAPS = [[86400, "24 hours"], [7200, "2 hours"], [604800, "7 days"], [2592000, "30 days"], [0, "not at all"]];

/** `own`: whether this page is signed in with it; `secret`: where a new secret is shown. */
export function keyEntry(api, key, { secret, own, changed }) {
  const ended = state(key);
  const actions = key.revoked_at ? null : element("div", { class: "row" },
    button("Rotate", () => rotate(api, key, secret, own, changed), { "aria-label": `Rotate ${key.name}` }),
    button("Revoke", () => revoke(api, key, own, changed), { class: "quiet danger-text", "aria-label": `Revoke ${key.name}` }));
  return element("li", { class: ended ? "ended" : undefined },
    element("div", { class: "row head" },
      element("h3", {}, key.name), ended ? element("span", { class: "tag bad" }, ended) : null,
      own ? element("span", { class: "tag" }, "this page") : null,
      element("small", { class: "mono" }, key.id)),
    element("p", { class: "scopes" }, ...key.scopes.map((scope) => element("span", { class: "tag plain" }, scope))),
    facts([
      ["Tenant", key.tenant],
      ["Rate", `${key.rate.toLocaleString()} a second, ${key.burst.toLocaleString()} at once`],
      ["Made", when(key.created_at)],
      ["Expires", key.expires_at ? when(key.expires_at) : "never"],
      ["Secret before", key.previous_until ? `opens until ${when(key.previous_until)}` : null],
      ["Revoked", key.revoked_at ? when(key.revoked_at) : null],
    ]),
    actions);
}

function state({ revoked_at: revoked, expires_at: expires }) {
  if (revoked) return "revoked";
  return expires && new Date(expires) <= new Date() ? "expired" : "";
}

async function rotate(api, key, secret, own, changed) {
  const overlap = element("select", {}, ...options(OVERLAPS.map(([value, text]) => [String(value), text])));
  const expires = element("input", { type: "date", autocomplete: "off" });
  let made;
  await ask({
    title: `Rotate ${key.name}?`,
    text: `The key gets a new secret; its id, scopes and limits stay.${own ? " This page is signed in with it: sign in anew with the new secret." : ""}`,
    content: [field("The secret until now opens for", overlap), field("New expiry (optional)", expires)],
    action: "Rotate",
    run: async () => {
      const body = { overlap_s: Number(overlap.value) };
      if (expires.value) body.expires_at = new Date(`${expires.value}T23:59:59`).toISOString();
      made = await api.json("POST", `/admin/keys/${key.id}/rotate`, { body });
    },
  });
  if (!made) return;
  showSecret(secret, `New secret of ${made.name}`, made.key);
  changed();
}

async function revoke(api, key, own, changed) {
  const done = await ask({
    title: `Revoke ${key.name}?`,
    text: `It and each token it minted end with the next request, for good.${own ? " This page is signed in with it and will stop working." : ""}`,
    word: key.id,
    action: "Revoke",
    danger: true,
    run: () => api.json("DELETE", `/admin/keys/${key.id}`),
  });
  if (!done) return;
  changed();
  notify(`${key.name} is revoked.`, true);
}
