// What a user's strict project does with @alignx/client. Prints one document.
import { AlignX, AlignXError, type Preferences } from "@alignx/client";

const seen: Record<string, unknown> = {};
const alignx = new AlignX();
const failure = async (attempt: Promise<unknown>) => {
  const error = await attempt.then(() => null, (reason: unknown) => reason);
  return error instanceof AlignXError ? [error.status, error.code] : String(error);
};

// The first answer to each append is lost; the second attempt must store nothing twice.
let isLost = true;
const keys: (string | undefined)[] = [];
const flaky = new AlignX({
  fetch: async (url, init) => {
    keys.push((init?.headers as Record<string, string> | undefined)?.["idempotency-key"]);
    const response = await fetch(url, init);
    isLost = !isLost;
    return isLost ? response : new Response("", { status: 503, headers: { "retry-after": "0" } });
  },
});
const statement = { type: "statement", text: "I like short books." } as const;
const stored = await flaky.append({ user: "js ä", events: [statement], prefer: "wait=10" });
seen.stored = [stored.ids.length, keys.length, keys[0] !== undefined && keys[0] === keys[1]];

const known: Preferences = await alignx.preferences({ user: "js ä" });
seen.text = known.text;
seen.unchanged = await alignx.preferences_if_changed({ user: "js ä", etag: known.etag });
const edited = await alignx.edit({ user: "js ä", text: "Likes short books.", "If-Match": known.etag });
seen.changed = (await alignx.preferences_if_changed({ user: "js ä", etag: known.etag }))?.text;
seen.stale = await failure(alignx.edit({ user: "js ä", text: "No.", "If-Match": known.etag }));
await alignx.rollback({ user: "js ä", version: known.version, "If-Match": edited.etag });
seen.diff = (await alignx.diff({ user: "js ä", from: known.version, to: edited.version })).to_version;

const outcomes = await alignx.append_many([
  { user: "js-1", events: [statement] },
  { user: "js-2", events: [] },
]);
seen.outcomes = outcomes.map((outcome) => outcome.status);
const users: string[] = [];
for await (const user of alignx.all_users({ prefix: "js" })) users.push(user.user);
seen.users = users;

await alignx.append({ user: "many", events: Array.from({ length: 120 }, () => statement), backfill: true });
const ids = new Set<string>();
for await (const event of alignx.all_events({ user: "many" })) ids.add(event.event_id);
seen.events = ids.size;
const versions: number[] = [];
for await (const version of alignx.all_versions({ user: "js ä" })) versions.push(version.version);
seen.versions = versions;

seen.choice = (await alignx.select({ user: "js ä", items: ["A short book", "A long book"] })).choice;
const answer = await alignx.chat({ user: "js ä", messages: [{ role: "user", content: "Hello." }] });
seen.chat = [answer.choices[0]?.message.content, answer.personalization.user];
let [text, user]: [string, unknown] = ["", null];
const lines = "Hello.\u2028You."; // with a separator of lines that is no end of a line in an event stream
for await (const chunk of alignx.stream_chat({ user: "js ä", messages: [{ role: "user", content: lines }] })) {
  text += chunk.text;
  user = chunk.personalization?.user ?? user;
}
seen.stream = [text, user];
for await (const event of alignx.watch({ user: "js ä" })) {
  if (event.type !== "version") continue;
  seen.watched = event.preferences.version;
  break;
}
seen.exported = (await new Response(await alignx.export({ user: "js ä" })).text()).trimEnd().split("\n").length > 3;
await alignx.erase({ user: "js ä" });

const stranger = new AlignX({ apiKey: String(0), retries: 0 });
seen.errors = [
  await failure(alignx.preferences({ user: "js ä" })),
  await failure(alignx.chat({ model: "other", messages: [{ role: "user", content: "Hello." }] })),
  await failure(stranger.users()),
  // @ts-expect-error: no kind of event
  await failure(alignx.append({ user: "a", events: [{ type: "wish" }] })),
];
// @ts-expect-error: a user must be named
alignx.erase satisfies () => Promise<unknown>;
console.log(JSON.stringify(seen));
