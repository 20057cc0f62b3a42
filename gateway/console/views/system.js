// Do the summaries work, is personalization worth it, and does the system work?

import { button, card, element } from "../dom.js";
import { healthView } from "../tenant/health.js";
import { qualityView, trialView } from "../tenant/quality.js";
import { upliftView } from "../tenant/uplift.js";
import { Loaded, note } from "../parts/states.js";

const HEALTH_MS = 15000;

export function open(page, { api, go }) {
  const quality = new Loaded(async () => qualityView(await api.json("GET", "/v1/quality")),
    note("No choice was predicted yet", "Each new choice is first predicted by the summary as it was before. Send comparisons, clicks among items shown, or purchases."));
  const uplift = new Loaded(async () => upliftView(await api.json("GET", "/v1/quality/uplift")),
    note("No users are held out", "To learn whether personalization is worth it, serve a share of the users without it: set Holdout share, such as 0.1, on the page Settings (with an admin key), or run: alignx tenants settings set TENANT holdout_share=0.1",
      button("Open Settings", () => go("settings"))));
  const trial = new Loaded(async () => trialView(await api.json("GET", "/v1/quality/trial")));
  const health = new Loaded(async () => healthView(await readiness(api)));
  page.append(
    card("Do the summaries work?",
      element("p", { class: "hint" }, "Each new choice is first predicted by the summary as it was before. All users of this key's tenant."),
      quality.node, element("h3", {}, "A new model"), trial.node),
    card("Is personalization worth it?",
      element("p", { class: "hint" }, "Users with personalization beside those held out, who are served without. All users of this key's tenant, erased ones too."),
      uplift.node),
    card("Health", health.node));
  for (const part of [quality, trial, uplift, health]) part.refresh();
  const timer = setInterval(() => health.refresh(), HEALTH_MS);
  return () => clearInterval(timer);
}

/** What /readyz says; where it answers 503 too. */
async function readiness(api) {
  const sent = { headers: { Authorization: `Bearer ${api.key}` }, cache: "no-store", credentials: "omit" };
  const answer = await fetch("/readyz", sent).catch(() => {
    throw new Error("The gateway does not answer.");
  });
  return answer.json();
}
