// Find a user: by the id, or in the tenant's list.

import { button, card, count, element, field, guarded, when } from "../dom.js";
import { Api } from "../api.js";
import { PagedList, note } from "../parts/states.js";

const PAGE = 50;

export function open(page, { api, session, go }) {
  const input = element("input", { maxlength: 256, required: true, spellcheck: "false", autocomplete: "off" });
  const submit = element("button", { type: "submit" }, "Open");
  const form = element("form", { class: "find", autocomplete: "off" },
    field("User", input, "Your own id of the user; its first letters narrow the list"), submit);
  const choose = (user) => {
    Api.user(user); // refuses what no id can be
    session.number(user);
    go("summary", user);
  };
  form.onsubmit = guarded(submit, () => choose(input.value.trim()));

  const entry = (user, about) =>
    element("li", {}, button(user, () => choose(user), { class: "plain" }), element("small", {}, about));
  const total = element("p", { class: "hint", role: "status" });
  const list = new PagedList(async (after) => {
    const prefix = input.value.trim();
    const query = new URLSearchParams({ limit: PAGE });
    if (after) query.set("after", after);
    if (prefix) query.set("prefix", prefix);
    try {
      const answer = await api.json("GET", `/v1/users?${query}`);
      total.textContent = count(answer.total, prefix ? "user with these first letters" : "user",
        prefix ? "users with these first letters" : "users");
      return { entries: answer.users.map((user) => entry(user.user, describe(user))), next: answer.next };
    } catch (error) {
      total.textContent = "";
      if (error.status !== 403 || !session.users.length) throw error;
      return { entries: session.users.map((user) => entry(user, "opened in this tab")), next: null };
    }
  }, {
    class: "users",
    more: "More users",
    empty: note("No user to show", "Type an id above. A user comes into being with the first event."),
  });

  let waiting;
  input.oninput = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => list.refresh(), 250);
  };
  page.append(card("Find a user", form), card("Users", total, list.node));
  list.refresh();
  return () => clearTimeout(waiting);
}

function describe({ events, pending, version, created_at: created, updated_at: updated }) {
  const written = version ? `version ${version}${updated ? ` of ${when(updated)}` : ""}` : `since ${when(created)}`;
  return [count(events, "event"), pending ? `${pending.toLocaleString()} waiting` : "", written].filter(Boolean).join(" · ");
}
