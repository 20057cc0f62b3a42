// A question before something that cannot be taken back, and forms that lie over the page.

import { button, element, field } from "../dom.js";

/** Asks in a modal dialog, and does `run` when the answer is yes; its problems are shown there. True when it was done.
 *
 * While `run` is under way the dialog stays, since what it gives, such as a secret, is shown to who asked.
 * `word` must be typed before the answer counts; `content` are further elements of the form. */
export function ask({ title, text, action, danger = false, word, content = [], run }) {
  return new Promise((resolve) => {
    const heading = element("h2", { id: "dialog-title" }, title);
    const problem = element("p", { class: "problem", role: "alert" });
    const yes = element("button", { type: "submit", class: danger ? "danger" : undefined }, action);
    const typed = word === undefined ? null : element("input", { autocomplete: "off", spellcheck: "false" });
    const no = button("Cancel", () => dialog.close());
    const form = element("form", { autocomplete: "off" },
      heading, text ? element("p", {}, text) : null, ...content,
      typed ? field(`Type ${word} to confirm`, typed) : null,
      problem, element("div", { class: "row" }, yes, no));
    const dialog = element("dialog", { "aria-labelledby": heading.id }, form);
    let done = false;
    const setBusy = (busy) => (yes.disabled = no.disabled = busy);
    if (typed) {
      yes.disabled = true;
      typed.oninput = () => (yes.disabled = typed.value !== word);
    }
    form.onsubmit = async (event) => {
      event.preventDefault();
      setBusy(true);
      problem.textContent = "";
      try {
        await run();
        done = true;
        setBusy(false);
        dialog.close();
      } catch (error) {
        problem.textContent = error.message;
        setBusy(false);
      }
    };
    dialog.oncancel = (event) => {
      if (no.disabled) event.preventDefault();
    };
    dialog.onclose = () => {
      if (no.disabled) return dialog.showModal(); // a browser closes it at a second Esc
      dialog.remove();
      resolve(done);
    };
    document.body.append(dialog);
    dialog.showModal();
    (typed ?? content.map((node) => node.querySelector("textarea, input, select")).find(Boolean) ?? no).focus();
  });
}
