// The API reference: /openapi.json as a page.

import { byId, element, notify } from "./dom.js";
import { setUpTheme } from "./parts/theme.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const DEPTH = 6; // schemas can refer to themselves

/** The schema a reference means. */
function resolve(api, schema) {
  const seen = new Set();
  while (schema?.$ref && !seen.has(schema.$ref)) {
    seen.add(schema.$ref);
    schema = schema.$ref.split("/").slice(1).reduce((part, name) => part?.[name], api);
  }
  return schema || {};
}

function typeName(api, schema, depth = 0) {
  if (schema?.$ref) return schema.$ref.split("/").pop();
  if (!schema || depth > DEPTH) return "any";
  const options = schema.anyOf || schema.oneOf;
  if (options) return options.map((option) => typeName(api, option, depth + 1)).join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") {
    const inner = typeName(api, schema.items, depth + 1);
    return inner.includes(" | ") ? `(${inner})[]` : `${inner}[]`;
  }
  return schema.type || "any";
}

/** Text in which `words` between backticks are code. */
const prose = (text) =>
  element("span", {}, ...text.split("`").map((part, place) => (place % 2 ? element("code", {}, part) : part)));

const table = (head, rows) =>
  element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))))));

function schemaView(api, schema, depth = 0) {
  const resolved = resolve(api, schema);
  const options = resolved.anyOf || resolved.oneOf;
  const nested = resolved.type === "array" ? resolve(api, resolved.items) : null;
  if (options || nested?.properties || nested?.anyOf || nested?.oneOf) {
    const inner = options || [nested];
    return element("div", {}, ...inner.map((option) => schemaView(api, option, depth + 1)));
  }
  if (!resolved.properties) return element("p", {}, element("code", {}, typeName(api, resolved)));
  const required = new Set(resolved.required || []);
  const rows = Object.entries(resolved.properties).map(([name, field]) => [
    element("code", {}, required.has(name) ? `${name} *` : name),
    element("code", {}, typeName(api, field)),
    prose(field.description || resolve(api, field).description || ""),
  ]);
  return element("div", {}, element("p", { class: "hint" }, resolved.title || ""), table(["field", "type", "about"], rows));
}

function contentViews(api, title, content) {
  return Object.entries(content || {}).map(([type, { schema }]) =>
    element("div", {}, element("h3", {}, `${title} `, element("small", {}, type)), schema ? schemaView(api, schema) : ""));
}

function errorsView(operation) {
  const refusals = Object.entries(operation.responses || {}).filter(([status]) => status >= "400");
  const rows = refusals.flatMap(([status, answer]) => answer.description.split("\n\n").map((about) => [status, prose(about)]));
  return rows.length ? element("div", {}, element("h3", {}, "Errors"), table(["status", "when"], rows)) : null;
}

function example(method, path, operation) {
  const words = ["curl"];
  if (method !== "get") words.push("-X", method.toUpperCase());
  if (operation.security) words.push('-H "Authorization: Bearer $ALIGNX_API_KEY"');
  if (operation.requestBody) words.push("--json '…'");
  words.push(`${location.origin}${path}`);
  return element("pre", { tabindex: 0 }, words.join(" "));
}

function operationView(api, path, method, operation) {
  const parameters = (operation.parameters || []).map((entry) => resolve(api, entry));
  const rows = parameters.map((entry) => [
    element("code", {}, entry.required ? `${entry.name} *` : entry.name),
    entry.in,
    element("code", {}, typeName(api, entry.schema)),
    prose(entry.description || entry.schema?.description || ""),
  ]);
  const answers = Object.entries(operation.responses || {}).filter(([status]) => status.startsWith("2"));
  return element("details", {},
    element("summary", {},
      element("span", { class: `verb ${method}` }, method.toUpperCase()),
      element("code", {}, path),
      element("span", {}, operation.summary || "")),
    element("div", { class: "body" },
      operation.description ? element("p", {}, prose(operation.description)) : null,
      example(method, path, operation),
      rows.length ? table(["parameter", "in", "type", "about"], rows) : null,
      ...contentViews(api, "Request", operation.requestBody?.content),
      ...answers.flatMap(([status, answer]) => contentViews(api, `Answer ${status}`, resolve(api, answer).content)),
      errorsView(operation)));
}

function show(api) {
  const groups = new Map();
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((name) => operations[name])) {
      const tag = operations[method].tags?.[0] || "other";
      groups.set(tag, [...(groups.get(tag) || []), operationView(api, path, method, operations[method])]);
    }
  }
  const sections = [...groups].flatMap(([tag, views]) => [element("h2", {}, tag), ...views]);
  const intro = (api.info.description || "").split("\n\n").map((text) => element("p", {}, prose(text)));
  byId("reference").replaceChildren(element("h1", {}, `${api.info.title} ${api.info.version}`), ...intro, ...sections);
}

setUpTheme(byId("theme"));
try {
  const answer = await fetch("/openapi.json");
  show(await answer.json());
} catch (error) {
  notify(error);
}
