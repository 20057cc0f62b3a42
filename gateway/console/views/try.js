// What a summary is for, tried out: chat in all modes side by side, selection, ranking.

import { ChatCompare } from "../panels/chat_compare.js";
import { choiceForm } from "../panels/choice.js";
import { rankingForm } from "../panels/ranking.js";
import { card, element } from "../dom.js";

export function open(page, { api, user }) {
  const chat = new ChatCompare(api, user);
  page.append(card("Chat, side by side", chat.node), element("div", { class: "columns even" },
    card("Which would they choose?", choiceForm(api, user)), card("In which order?", rankingForm(api, user))));
  chat.open();
  return () => chat.close();
}
