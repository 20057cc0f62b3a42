// Edit the summary: the user's own words, which later versions keep.

import { Api } from "../api.js";
import { element, field, notify } from "../dom.js";
import { ask } from "../parts/dialog.js";

/** The preferences and the ETag by which a change says what it was made from. */
export async function readCurrent(api, user) {
  const answer = await api.fetch("GET", Api.user(user, "/preferences"));
  return { etag: answer.headers.get("ETag"), current: await answer.json() };
}

/** The preferences after the edit; null when it was cancelled or could not begin. */
export async function editSummary(api, user) {
  const { etag, current } = await readCurrent(api, user).catch((error) => (notify(error), {}));
  if (!current) return null;
  const text = element("textarea", { id: "edit-text", rows: 10, maxlength: 20000, required: true, autocomplete: "off" });
  text.value = current.text;
  let saved = null;
  await ask({
    title: "Edit the summary",
    text: "Written over it are the user's own words: later versions keep them until the next edit.",
    content: [field("Summary", text)],
    action: "Save",
    run: async () => {
      const options = { body: { text: text.value }, headers: { "If-Match": etag } };
      saved = await api.json("PUT", Api.user(user, "/preferences"), options);
    },
  });
  return saved;
}
