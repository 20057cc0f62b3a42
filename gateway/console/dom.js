// Small helpers around the document. Text from outside only ever becomes text nodes.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text nodes, `onclick` a listener. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

export const button = (text, onclick, attributes = {}) =>
  element("button", { type: "button", class: "quiet", onclick, ...attributes }, text);

let fields = 0;

/** A control under its label, with a hint that a screen reader reads too. */
export function field(label, control, hint) {
  control.id ||= `field-${++fields}`;
  const note = hint ? element("small", { id: `${control.id}-hint` }, hint) : null;
  if (note) control.setAttribute("aria-describedby", note.id);
  return element("div", { class: "field" }, element("label", { for: control.id }, label), control, note);
}

export const checkbox = (label, attributes = {}) =>
  element("label", { class: "check" }, element("input", { type: "checkbox", ...attributes }), " ", label);

export const options = (values, chosen) =>
  values.map(([value, text]) => element("option", { value, selected: value === chosen }, text));

/** A region of a page under a heading. */
export function card(title, ...children) {
  const heading = element("h2", { id: `section-${++fields}` }, title);
  return element("section", { class: "card", "aria-labelledby": heading.id }, heading, ...children);
}

/** The lines of a text that hold something. */
export const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

export const percent = (share) => (share === null || share === undefined ? "–" : `${(share * 100).toFixed(1)}\u00a0%`);

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString()} ${number === 1 ? one : many}`;

export const when = (text) => new Date(text).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

/** A day, or the moment: what is told of a day has midnight of UTC as its time. */
export const moment = (text) => (/T00:00:00(\.0+)?(Z|\+00:00)$/.test(text)
  ? new Date(text).toLocaleDateString([], { dateStyle: "medium", timeZone: "UTC" }) : when(text));

/** A definition list of [name, value]; entries without a value are left out. */
export const facts = (entries) =>
  element("dl", { class: "facts" }, ...entries
    .filter(([, value]) => value !== undefined && value !== null && value !== "")
    .flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value instanceof Node ? value : String(value))]));

/** Says something to the user; an error says what the problem document says. */
export function notify(what, good = false) {
  const notice = byId("notice");
  notice.hidden = !what;
  notice.classList.toggle("good", good);
  notice.textContent = what instanceof Error ? what.message : what || "";
}

/** Runs a handler with its button disabled and its problems shown. */
export function guarded(node, work) {
  return async (event) => {
    event?.preventDefault();
    const control = node ?? event.submitter ?? event.currentTarget;
    control.disabled = true;
    notify("");
    try {
      await work(event);
    } catch (error) {
      if (error.name !== "AbortError") notify(error);
    } finally {
      control.disabled = false;
    }
  };
}
