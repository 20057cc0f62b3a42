// Which address shows which view. An address names a user by a number of this tab, never by the id.

import * as history from "./views/history.js";
import * as keys from "./views/keys.js";
import * as settings from "./views/settings.js";
import * as summary from "./views/summary.js";
import * as system from "./views/system.js";
import * as timeline from "./views/timeline.js";
import * as attempt from "./views/try.js";
import * as users from "./views/users.js";

/** Each view is a module with `open(page, context)`, which fills an element and may return what ends it. */
export const VIEWS = [
  { name: "users", title: "Users", view: users },
  { name: "summary", title: "Summary", ofUser: true, view: summary },
  { name: "timeline", title: "Timeline", ofUser: true, view: timeline },
  { name: "history", title: "History", ofUser: true, view: history },
  { name: "try", title: "Try", ofUser: true, view: attempt },
  { name: "keys", title: "Keys", view: keys },
  { name: "settings", title: "Settings", view: settings },
  { name: "system", title: "System", view: system },
];

export const address = (route, number) => (route.ofUser ? `#/u/${number}/${route.name}` : `#/${route.name}`);

/** {route, number} of an address; the first view where it names none. */
export function findRoute(hash) {
  const [, number, name] = hash.match(/^#\/(?:u\/(\d+)\/)?([a-z]+)$/) ?? [];
  const route = VIEWS.find((one) => one.name === name && Boolean(one.ofUser) === Boolean(number));
  return route ? { route, number: Number(number) || null } : { route: VIEWS[0], number: null };
}
