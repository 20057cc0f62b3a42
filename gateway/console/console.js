// The console: signs in with a key, opens a user, and joins the panels.

import { Api } from "./api.js";
import { byId, element, guarded, notify, percent, setUpTheme, showFacts } from "./dom.js";
import { EventForm } from "./events.js";
import { SummaryPanel } from "./summary.js";
import { UsePanel, setUpTabs } from "./use.js";

const HEALTH_MS = 15000;
let panels = [];

async function openUser() {
  const key = byId("key").value.trim();
  const user = byId("user").value.trim();
  const api = new Api(key);
  Api.user(user);
  await showQuality(api); // a wrong key shows here
  sessionStorage.setItem("key", key);
  remember(user);
  panels.forEach((panel) => panel.close());
  const summary = new SummaryPanel(api, user, () => showQuality(api).catch(() => {}));
  const use = new UsePanel(api, user);
  panels = [summary, use];
  byId("main").hidden = false;
  summary.open();
  use.open();
  // A user's first event brings the stream into being.
  new EventForm(api, user, () => byId("state").textContent === "unknown user" && summary.follow()).open();
}

async function showQuality(api) {
  const quality = await api.json("GET", "/v1/quality");
  const facts = Object.entries(quality).map(([scorer, { comparisons, accuracy, mean_probability: mean }]) =>
    [scorer, `${percent(accuracy)} right of ${comparisons} choices, mean probability ${percent(mean)}`]);
  showFacts(byId("quality"), facts.length ? facts : [["–", "no choice was predicted yet"]]);
}

function remember(user) {
  const recent = [user, ...recentUsers().filter((other) => other !== user)].slice(0, 12);
  sessionStorage.setItem("users", JSON.stringify(recent));
  showRecent();
}

const recentUsers = () => JSON.parse(sessionStorage.getItem("users") || "[]");

function showRecent() {
  byId("recent").replaceChildren(...recentUsers().map((user) => element("option", { value: user })));
}

async function showHealth() {
  const health = byId("health");
  try {
    const answer = await fetch("/readyz", { cache: "no-store" });
    const { checks, engine } = await answer.json();
    const wrong = Object.values(checks).filter((state) => state !== "ok");
    if (engine?.state === "degraded") wrong.push(`Engine degraded: ${engine.detail}`);
    health.className = wrong.length ? "health down" : "health ready";
    health.textContent = wrong.length ? wrong.join(" ") : "ready";
  } catch {
    health.className = "health down";
    health.textContent = "the gateway does not answer";
  }
}

setUpTheme(byId("theme"));
setUpTabs(byId("tabs"));
showRecent();
byId("key").value = sessionStorage.getItem("key") || "";
byId("user").value = recentUsers()[0] || "";
byId("sign-in").onsubmit = guarded(byId("sign-in").querySelector("button"), openUser);
if (byId("key").value && byId("user").value) openUser().catch(notify);
showHealth();
setInterval(showHealth, HEALTH_MS);
