// Find a user: by the id, or in the list where the gateway has one.

import { button, card, count, element, field, guarded, when } from "../dom.js";
import { Api } from "../api.js";
import { PagedList, note } from "../parts/states.js";

const PAGE = 50;

export function open(page, { api, session, go }) {
  const input = element("input", { maxlength: 256, required: true, spellcheck: "false", autocomplete: "off" });
  const submit = element("button", { type: "submit" }, "Open");
  const form = element("form", { class: "find", autocomplete: "off" }, field("User", input, "Your own id of the user"), submit);
  const choose = (user) => {
    Api.user(user); // refuses what no id can be
    session.number(user);
    go("summary", user);
  };
  form.onsubmit = guarded(submit, () => choose(input.value.trim()));

  const entry = (user) => {
    const id = typeof user === "string" ? user : user.user ?? user.id;
    const events = user.events_total ?? user.events;
    const latest = user.last_event_at ?? user.updated_at ?? user.last_seen_at;
    const told = [typeof events === "number" ? count(events, "event") : "", latest ? when(latest) : ""].filter(Boolean);
    return element("li", {}, button(id, () => choose(id), { class: "plain" }), element("small", {}, told.join(" · ")));
  };

  const list = new PagedList(async (after) => {
    const query = new URLSearchParams({ limit: PAGE });
    if (after) query.set("after", after);
    if (input.value.trim()) query.set("prefix", input.value.trim());
    const answer = await api.json("GET", `/v1/users?${query}`).catch((error) => {
      if (error.status !== 404) throw error;
      return null; // a gateway that lists none
    });
    if (answer === null) return { entries: opened(session, choose), next: null };
    return { entries: answer.users.map(entry), next: answer.next };
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
  page.append(card("Find a user", form), card("Users", list.node));
  list.refresh();
  return () => clearTimeout(waiting);
}

const opened = (session, choose) => session.users.map((id) =>
  element("li", {}, button(id, () => choose(id), { class: "plain" }), element("small", {}, "opened in this tab")));
