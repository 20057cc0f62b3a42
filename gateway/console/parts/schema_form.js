// A form made of a JSON schema's properties: a control for each, by its type.

import { button, checkbox, element, field, lines } from "../dom.js";
import { showFieldErrors } from "./field_errors.js";

/** Groups of settings by what their names begin with; the last takes the rest. */
const GROUPS = [
  ["When a summary is rewritten", /^(update|backfill)_/],
  ["Privacy", /^(hide|denied|event)_/],
  ["New models on trial", /^trial_/],
  ["What other users took", /^traffic/],
  ["Uplift and feedback", /^(holdout|feedback)_/],
  ["Token budget", /^tokens_/],
  ["Limits and more", /./],
];

export class SchemaForm {
  /** `values` by name, `own`: names that are set here. `restore(name)` takes an own value back and gives what holds then. */
  constructor(schema, values, own, restore) {
    this.restore = restore;
    this.fields = {};
    const groups = new Map(GROUPS.map(([title]) => [title, []]));
    for (const [name, property] of Object.entries(schema.properties)) {
      const [title] = GROUPS.find(([, names]) => names.test(name));
      groups.get(title).push(this.add(name, property));
    }
    this.node = element("div", { class: "groups" }, ...[...groups].filter(([, rows]) => rows.length).map(([title, rows]) =>
      element("fieldset", {}, element("legend", {}, title), ...rows)));
    this.accept(values, own);
  }

  add(name, property) {
    const { kind, type } = readType(property);
    const label = name.replace(/_s$/, "_seconds").replaceAll("_", " ").replace(/^./, (letter) => letter.toUpperCase());
    const origin = element("small", { class: "origin" });
    const back = button("Use the deployment's", () => this.takeBack(name), { "aria-label": `Use the deployment's value of ${label}` });
    const hint = [property.description?.replaceAll("`", ""), rangeOf(type)].filter(Boolean).join(" ");
    let control;
    let row;
    if (kind === "boolean") {
      row = checkbox(label, { id: `setting-${name}` });
      control = row.firstChild;
      const note = element("small", { id: `${control.id}-hint` }, hint);
      control.setAttribute("aria-describedby", note.id);
      row = element("div", { class: "field" }, row, note);
    } else {
      const attributes = { id: `setting-${name}`, autocomplete: "off" };
      if (kind === "list") control = element("textarea", { ...attributes, rows: 3 });
      else control = element("input", { ...attributes, ...(kind === "number" ? { inputmode: "decimal" } : {}) });
      row = field(label, control, kind === "list" ? `${hint} One a line.` : hint);
    }
    row.append(element("div", { class: "row origin-row" }, origin, back));
    this.fields[name] = { kind, control, origin, back, shown: "" };
    return row;
  }

  /** Shows what holds now. */
  accept(values, own) {
    for (const name of Object.keys(this.fields)) this.show(name, values[name], own.includes(name));
  }

  show(name, value, own) {
    const entry = this.fields[name];
    if (entry.kind === "boolean") entry.control.checked = value;
    else if (entry.kind === "object") entry.control.value = JSON.stringify(value);
    else entry.control.value = entry.kind === "list" ? value.join("\n") : value ?? "";
    entry.shown = this.read(entry);
    entry.origin.textContent = own ? "set for this tenant" : "the deployment's value";
    entry.back.hidden = !own;
  }

  read({ kind, control }) {
    return kind === "boolean" ? String(control.checked) : control.value;
  }

  async takeBack(name) {
    const entry = this.fields[name];
    entry.back.disabled = true;
    try {
      this.show(name, await this.restore(name), false);
      entry.control.focus();
    } catch (error) {
      showFieldErrors(this.controls, [{ field: name, message: error.message }]);
    }
    entry.back.disabled = false;
  }

  get controls() {
    return Object.fromEntries(Object.entries(this.fields).map(([name, { control }]) => [name, control]));
  }

  /** The fields that differ from what was shown. What is no number goes as it is: the gateway says what is wrong. */
  changes() {
    const changed = Object.entries(this.fields).filter(([, entry]) => this.read(entry) !== entry.shown);
    return Object.fromEntries(changed.map(([name, { kind, control }]) => [name, valueOf(kind, control)]));
  }

  showErrors(errors) {
    return showFieldErrors(this.controls, errors);
  }
}

/** The kind of control, and the schema beside null. */
function readType(property) {
  const type = property.anyOf?.find((option) => option.type !== "null") ?? property;
  const kinds = { boolean: "boolean", array: "list", object: "object", integer: "number", number: "number" };
  return { kind: kinds[type.type] ?? "text", type };
}

function rangeOf({ minimum, exclusiveMinimum, maximum, type }) {
  const parts = [];
  if (minimum !== undefined) parts.push(`at least ${minimum}`);
  if (exclusiveMinimum !== undefined) parts.push(`above ${exclusiveMinimum}`);
  if (maximum !== undefined) parts.push(`at most ${maximum.toLocaleString()}`);
  if (!parts.length) return "";
  return `${type === "integer" ? "A whole number" : "A number"}, ${parts.join(", ")}.`;
}

function valueOf(kind, control) {
  if (kind === "boolean") return control.checked;
  if (kind === "list") return lines(control.value);
  const text = control.value.trim();
  if (!text) return null;
  if (kind === "object") return parsed(text);
  return kind === "number" && Number.isFinite(Number(text)) ? Number(text) : text;
}

/** What is no JSON goes as it is, as above. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
