// A secret that is shown once: a key or a token.

import { button, element, field } from "../dom.js";

/** `about` says what it is, `kept` what the gateway keeps of it; the text leaves the page with `Done`. */
export function showSecret(place, about, secret, kept = "Only its hash is kept.") {
  const text = element("input", { readonly: true, value: secret, class: "mono", spellcheck: "false", autocomplete: "off" });
  const copied = element("span", { class: "hint", role: "status" });
  const copy = button("Copy", async () => {
    text.select();
    try {
      await navigator.clipboard.writeText(secret);
      copied.textContent = "Copied.";
    } catch {
      copied.textContent = "Selected: press Ctrl+C.";
    }
  });
  const done = button("Done", () => place.replaceChildren());
  place.replaceChildren(element("div", { class: "secret" },
    field(about, text, `It is shown this once. ${kept}`),
    element("div", { class: "row" }, copy, done, copied)));
  text.focus();
}
