// An event in words.

import { element } from "../dom.js";

const NOT_CONTENT = ["type", "id", "source", "metadata", "occurred_at", "directions", "scale"];
export const TYPES = ["comparison", "click", "rating", "purchase", "post", "dialogue", "demographic", "statement"];

const content = (interaction) => Object.entries(interaction)
  .filter(([name, value]) => value !== null && value !== "" && value?.length !== 0 && !NOT_CONTENT.includes(name));

/** One line. */
export function interactionLine(interaction) {
  const fields = content(interaction);
  if (fields.length === 1) return plain(fields[0][1]);
  return fields.map(([name, value]) => `${name}: ${plain(value)}`).join("; ");
}

/** Its fields under their names. */
export function interactionView(interaction) {
  const fields = content(interaction);
  if (fields.length === 1) return element("p", { class: "told" }, plain(fields[0][1]));
  return element("dl", { class: "told" }, ...fields.flatMap(([name, value]) =>
    [element("dt", {}, name), element("dd", {}, plain(value))]));
}

function plain(value) {
  if (Array.isArray(value)) return value.map(plain).join(value[0]?.role ? "\n" : ", ");
  if (value?.role) return `${value.role}: ${value.content}`;
  if (value?.title) return value.category ? `${value.title} (${value.category})` : value.title;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
