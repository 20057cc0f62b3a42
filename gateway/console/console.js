// The console: signs in with a key, and shows the view that the address names.

import { Api, Problem } from "./api.js";
import { byId, element, guarded, notify } from "./dom.js";
import { setUpTheme } from "./parts/theme.js";
import { VIEWS, address, findRoute } from "./routes.js";
import { Session } from "./session.js";

const HEALTH_MS = 15000;
const session = new Session();
let api = null;
let user = null;
let close = () => {};
let message = ""; // for the view that comes next

async function signIn() {
  const key = byId("key").value.trim();
  try {
    await new Api(key).json("GET", "/v1/quality"); // a wrong key shows here
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 403) throw error;
  }
  session.key = key;
  byId("key").value = "";
  enter();
}

function enter() {
  api = new Api(session.key);
  byId("sign-in").hidden = true;
  byId("shell").hidden = false;
  byId("sign-out").hidden = false;
  show();
}

function signOut() {
  close();
  session.end();
  location.hash = "";
  location.reload(); // leaves nothing of the session in memory
}

function show() {
  if (!api) return;
  const { route, number } = findRoute(location.hash);
  if (number && !session.user(number)) {
    message = "Whose page that was is not kept when the page is loaded anew. Choose the user again.";
    return location.replace(address(VIEWS[0]));
  }
  user = session.user(number) ?? user;
  close();
  notify(message);
  message = "";
  document.title = `${route.title} · AlignX console`;
  showNavigation(route);
  const heading = element("h1", { tabindex: "-1" }, route.title);
  if (route.ofUser) heading.append(" ", element("bdi", {}, user));
  const page = element("div", { class: "view" }, heading);
  byId("main").replaceChildren(page);
  close = route.view.open(page, { api, user, session, go }) ?? (() => {});
  if (document.activeElement === document.body || byId("navigation").contains(document.activeElement)) heading.focus();
}

/** Goes to a view, by its name; `of` is the user it is to be of. */
function go(name, of = user) {
  const route = VIEWS.find((one) => one.name === name);
  location.hash = address(route, route.ofUser ? session.number(of) : null);
}

function showNavigation(current) {
  const link = (route) => {
    const here = route === current ? "page" : undefined;
    if (route.ofUser && !user) return element("span", { class: "off", title: "Choose a user first" }, route.title);
    const number = route.ofUser ? session.number(user) : null;
    return element("a", { href: address(route, number), "aria-current": here }, route.title);
  };
  byId("navigation").replaceChildren(...VIEWS.map((route) => element("li", { class: route.ofUser ? "of-user" : undefined }, link(route))));
}

async function showHealth() {
  const health = byId("health");
  const say = (state, text) => {
    health.className = `health ${state}`;
    if (health.textContent !== text) health.textContent = text;
  };
  try {
    const answer = await fetch("/readyz", { cache: "no-store" });
    const { checks, engine } = await answer.json();
    const wrong = Object.values(checks).filter((state) => state !== "ok");
    if (engine?.state === "degraded") wrong.push("The engine is degraded.");
    if (wrong.length) say("down", wrong.length === 1 ? wrong[0] : `${wrong.length} checks fail`);
    else say("ready", "ready");
    byId("offline").hidden = true;
  } catch {
    say("down", "no answer");
    byId("offline").hidden = false;
  }
}

setUpTheme(byId("theme"));
byId("sign-in").querySelector("form").onsubmit = guarded(byId("sign-in").querySelector("button"), signIn);
byId("sign-out").onclick = signOut;
byId("skip").onclick = (event) => {
  event.preventDefault(); // the address is the view's
  (byId("main").querySelector("h1") ?? byId("key")).focus();
};
addEventListener("hashchange", show);
for (const change of ["online", "offline"]) addEventListener(change, showHealth);
if (session.key) enter();
else byId("key").focus();
showHealth();
setInterval(showHealth, HEALTH_MS);
