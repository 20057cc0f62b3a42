// Candidates in the order in which the user would like them, with reasons.

import { Api } from "../api.js";
import { checkbox, element, field, guarded, lines } from "../dom.js";
import { basisView } from "../parts/basis.js";

export function rankingForm(api, user) {
  const query = element("input", { placeholder: "Something to read", autocomplete: "off" });
  const items = element("textarea", { rows: 4, required: true, autocomplete: "off" });
  const explain = checkbox("with reasons", { checked: true });
  const submit = element("button", { type: "submit" }, "Rank");
  const result = element("div", { id: "rank-result", class: "result", role: "status" });
  const form = element("form", { autocomplete: "off" },
    field("Question (optional)", query), field("Candidates", items, "One a line"), explain, submit, result);
  form.onsubmit = guarded(submit, async () => {
    const candidates = lines(items.value);
    const body = { query: query.value, candidates, explain: explain.firstChild.checked };
    const answer = await api.json("POST", Api.user(user, "/recommend"), { body });
    const ranked = answer.items.map(({ index, score, reason }) => element("li", {},
      element("span", {}, candidates[index]), element("small", {}, `score ${score.toFixed(3)}`),
      reason ? element("p", { class: "hint" }, reason) : null));
    result.replaceChildren(element("ol", { class: "ranking" }, ...ranked), basisView(answer));
  });
  return form;
}
