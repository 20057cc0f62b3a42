// What changed between two texts, word by word.
//
// Own, and no library: summaries have some hundred words, for which the plain longest common subsequence is enough.

/** Pieces {kind: "same" | "removed" | "added", text} in order; those that are not added give `before`, those that are not
 * removed give `after`. */
export function wordDiff(before, after) {
  const [old, now] = [split(before), split(after)];
  let start = 0;
  while (start < old.length && start < now.length && old[start] === now[start]) start++;
  let [oldEnd, nowEnd] = [old.length, now.length];
  while (oldEnd > start && nowEnd > start && old[oldEnd - 1] === now[nowEnd - 1]) oldEnd--, nowEnd--;
  const middle = compare(old.slice(start, oldEnd), now.slice(start, nowEnd));
  return join([
    ...old.slice(0, start).map((text) => ({ kind: "same", text })),
    ...middle,
    ...old.slice(oldEnd).map((text) => ({ kind: "same", text })),
  ]);
}

/** Words, spaces and marks, so that a full stop does not change the word before it. */
const split = (text) => text.match(/[\p{L}\p{N}'’-]+|\s+|[^\p{L}\p{N}\s]/gu) ?? [];

function compare(old, now) {
  const width = now.length + 1;
  const longest = new Uint16Array((old.length + 1) * width);
  for (let i = old.length - 1; i >= 0; i--) {
    for (let j = now.length - 1; j >= 0; j--) {
      longest[i * width + j] = old[i] === now[j]
        ? longest[(i + 1) * width + j + 1] + 1
        : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const pieces = [];
  let [i, j] = [0, 0];
  while (i < old.length || j < now.length) {
    if (i < old.length && j < now.length && old[i] === now[j]) {
      pieces.push({ kind: "same", text: old[i++] });
      j++;
    } else if (j >= now.length || (i < old.length && longest[(i + 1) * width + j] >= longest[i * width + j + 1])) {
      pieces.push({ kind: "removed", text: old[i++] });
    } else {
      pieces.push({ kind: "added", text: now[j++] });
    }
  }
  return pieces;
}

/** Neighbours of one kind become one piece; a lone space between two changes belongs to both of them. */
function join(pieces) {
  const runs = [];
  let [removed, added] = ["", ""];
  const flush = () => {
    const tail = removed.match(/\s+$/)?.[0] ?? "";
    const shared = tail && added.endsWith(tail) ? tail : ""; // is no change
    removed = removed.slice(0, removed.length - shared.length);
    added = added.slice(0, added.length - shared.length);
    if (removed) runs.push({ kind: "removed", text: removed });
    if (added) runs.push({ kind: "added", text: added });
    if (shared) runs.push({ kind: "same", text: shared });
    [removed, added] = ["", ""];
  };
  pieces.forEach(({ kind, text }, place) => {
    const between = kind === "same" && /^\s+$/.test(text) && (removed || added) && pieces[place + 1]?.kind !== "same"
      && place + 1 < pieces.length;
    if (kind === "removed" || between) removed += text;
    if (kind === "added" || between) added += text;
    if (kind !== "same" || between) return;
    flush();
    if (runs.at(-1)?.kind === "same") runs.at(-1).text += text;
    else runs.push({ kind: "same", text });
  });
  flush();
  return runs;
}
