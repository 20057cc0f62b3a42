// Two texts as one, with what was taken out and what was put in.

import { element } from "../dom.js";
import { wordDiff } from "./word_diff.js";

const TAGS = { same: "span", removed: "del", added: "ins" };

export function diffView(before, after) {
  if (before === after) return element("p", { class: "hint" }, "The same text.");
  const pieces = wordDiff(before, after).map(({ kind, text }) => element(TAGS[kind], {}, text));
  return element("p", { class: "diff" }, ...pieces);
}
