// Which of these would the user choose, and what that rests on.

import { Api } from "../api.js";
import { element, field, guarded, lines, percent } from "../dom.js";
import { basisView } from "../parts/basis.js";

export function choiceForm(api, user) {
  const query = element("input", { placeholder: "Which film tonight?", autocomplete: "off" });
  const items = element("textarea", { id: "select-items", rows: 4, required: true, autocomplete: "off" });
  const submit = element("button", { type: "submit" }, "Which would they choose?");
  const result = element("div", { id: "select-result", class: "result", role: "status" });
  const form = element("form", { autocomplete: "off" },
    field("Question (optional)", query), field("Items", items, "One a line, 2 to 26"), submit, result);
  form.onsubmit = guarded(submit, async () => {
    const offered = lines(items.value);
    const body = { query: query.value, items: offered };
    const answer = await api.json("POST", Api.user(user, "/select"), { body });
    const order = [...answer.items].sort((a, b) => b.probability - a.probability);
    result.replaceChildren(
      ...order.map(({ index, probability }) =>
        element("div", { class: index === answer.choice ? "bar-line best" : "bar-line" },
          element("span", {}, offered[index]),
          element("span", {}, percent(probability)),
          element("meter", { value: probability, "aria-label": offered[index] }))),
      basisView(answer));
  });
  return form;
}
