"""Every prompt that a language model reads in this suite, for serving and for training.

The fixed text stands in services/prompts/templates.py; here history and past summary become messages, and
services/prompts/replies/parse_summary.py parses the reply. Pure functions: training and serving use the same bytes
(tests/golden holds each prompt).

Two rules give the prompts their shape:

- *Order.* What most calls share comes first (fixed instruction, then the user's summary, then what
  is new), so that the engine's prefix cache is hit.
- *Trust.* Only fixed text stands in the system role, followed by what the caller of a
  chat put there. A history, an item or a summary is data: it stands in a user turn, between tags
  whose closing form it cannot contain, because every `<` of it is escaped.
  services/prompts/plain.py has the one exception.
"""

import html
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict, cast

from alignx.schemas.interactions import (
    ClickInteraction,
    ComparisonInteraction,
    DemographicInteraction,
    DialogueInteraction,
    Interaction,
    Message,
    PostInteraction,
    PurchaseInteraction,
    RatingInteraction,
    StatementInteraction,
)
from alignx.schemas.items import MAX_CHOICES, Item, ItemFields, item_text
from alignx.schemas.requests import ChatMode
from services.prompts.control_tokens import escape_data
from services.prompts.directions import describe_vectors
from services.prompts.sentences import cap_text, clip_text
from services.prompts.templates import (
    CHAT_ACKNOWLEDGEMENT,
    CHAT_SYSTEM,
    DIRECT_SELECTION_SYSTEM,
    SELECTION_PREFILL,
    SELECTION_SYSTEM,
    UPDATE_REQUEST,
    UPDATE_SYSTEM,
)


class ChatMessage(TypedDict):
    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """Messages for the engine and the id of the template that made them."""

    template: str
    messages: list[ChatMessage]


OPENING: Final = "<think>"
"""At the end of a prompt it opens the reply."""


def whole_prompt(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """The text of a prompt that opens the reply itself, as AlignXplore's do: all that a model reads, and no chat
    template wraps it. None for other prompts."""
    text = messages[0]["content"] if len(messages) == 1 else None
    return text if isinstance(text, str) and text.endswith(OPENING) else None


LETTERS: Final = tuple(f" {letter}" for letter in string.ascii_uppercase[:MAX_CHOICES])
"""The tokens that may follow the prefill of `selection_prompt`, in the order of its items."""

MAX_EVENT_NUMBER: Final = 9_999
"""Token estimates give each event a number of so many digits."""

ASSISTANT_CONTEXT_CHARS: Final = 160
"""Characters shown of an assistant's turn in a dialogue: enough to see what the user reacts to."""

# --- text --------------------------------------------------------------------------------------


def estimate_tokens(text: str) -> int:
    """About how many tokens `text` has, rather too many than too few, in one pass and without a
    tokenizer: 3 bytes a token, and digits, which many tokenizers read one by one, a token each."""
    size = len(text.encode("utf-8", "surrogatepass"))
    digits = sum(map(text.count, string.digits))
    return -(-(size + 2 * digits) // 3)


def _line(text: str) -> str:
    """Data that must stay on one line."""
    return " ".join(escape_data(text).split())


def _attribute(name: str, value: str | None) -> str:
    return f' {name}="{_line(value).replace(chr(34), "&quot;")}"' if value else ""


def _tag(name: str, text: str | None, attributes: str = "") -> list[str]:
    return [f"<{name}{attributes}>{escape_data(text)}</{name}>"] if text else []


# --- interactions ------------------------------------------------------------------------------


def interaction_lines(interaction: Interaction, number: int = 1) -> str:
    """One event as prompt text: a delimited block of escaped data, numbered so that reasoning can cite
    it. Its time is left out: events stand in order. Its metadata are never shown."""
    return _event(interaction, _body(interaction), number)


def interaction_tokens(interaction: Interaction) -> int:
    """Estimated tokens of `interaction_lines`, the line end included."""
    return estimate_tokens(interaction_lines(interaction, MAX_EVENT_NUMBER)) + 1


def _event(interaction: Interaction, body: Iterable[str], number: int) -> str:
    head = f'<event n="{number}" type="{interaction.type}"{_attribute("source", interaction.source)}>'
    return "\n".join([head, *body, "</event>"])


def _body(interaction: Interaction) -> list[str]:
    match interaction:
        case ComparisonInteraction(query=query, chosen=chosen, rejected=rejected):
            return [*_tag("query", query), *_choice(chosen, [rejected])]
        case ClickInteraction(query=query, clicked=clicked, shown=shown):
            return [*_tag("query", query), *_choice(clicked, [item for item in shown if item != clicked])]
        case PurchaseInteraction(item=item, considered=considered):
            return _choice(item, [other for other in considered if other != item])
        case RatingInteraction():
            return _render_rating("item", interaction)
        case PostInteraction(prompt=prompt, text=text):
            return [*_tag("prompt", prompt), *_tag("wrote", text)]
        case DialogueInteraction(messages=messages):
            return [line for message in messages for line in _turn(message)]
        case DemographicInteraction(text=text) | StatementInteraction(text=text):
            return [escape_data(text)]


def _choice(chosen: Item, rejected: Sequence[Item]) -> list[str]:
    """One rejected option keeps its form; of several, each becomes a line."""
    lines = _tag("chosen", item_text(chosen))
    if len(rejected) == 1:
        return [*lines, *_tag("rejected", item_text(rejected[0]))]
    options = [f"- {_line(item_text(item))}" for item in rejected]
    return [*lines, "<rejected>", *options, "</rejected>"] if options else lines


def _render_rating(tag: str, rating: RatingInteraction) -> list[str]:
    low, high = rating.scale
    value = _attribute("rating", f"{rating.value:g} on {low:g} to {high:g}")
    return [*_tag(tag, item_text(rating.item), value), *_tag("review", rating.review)]


def _turn(message: Message) -> list[str]:
    if message.role == "user":
        return _tag("user", message.content)
    return _tag("assistant", clip_text(message.content, ASSISTANT_CONTEXT_CHARS))


def _history_lines(interactions: Sequence[Interaction]) -> str:
    """All events, oldest first; two opposite ratings are one choice."""
    lines = []
    for number, (event, opposite) in enumerate(pair_ratings(interactions), start=1):
        body = _body(event)
        if opposite is not None and isinstance(event, RatingInteraction):
            best, worst = (event, opposite) if event.liking > 0 else (opposite, event)
            body = [*_render_rating("chosen", best), *_render_rating("rejected", worst)]
        lines.append(_event(event, body, number))
    return "\n".join(lines)


def pair_ratings(interactions: Sequence[Interaction]) -> list[tuple[Interaction, RatingInteraction | None]]:
    """The events, oldest first. A high and a low rating from the same source make one choice: the later stands
    with the earlier as its opposite, and the earlier by itself no more."""
    waiting: dict[str | None, list[tuple[int, RatingInteraction]]] = {}
    opposites: dict[int, RatingInteraction | None] = {}
    for index, event in enumerate(interactions):
        opposites[index] = None
        if not isinstance(event, RatingInteraction) or event.liking == 0:
            continue
        same_source = waiting.setdefault(event.source, [])
        if same_source and same_source[0][1].liking * event.liking < 0:
            earlier, opposites[index] = same_source.pop(0)
            del opposites[earlier]
        else:
            same_source.append((index, event))
    return [(interactions[index], opposite) for index, opposite in opposites.items()]


def plain_history(interactions: Sequence[Interaction]) -> str:
    """The texts of events alone, by which a reply is checked against them."""
    return html.unescape(re.sub(r"<[^>]*>", " ", _history_lines(interactions)))


# --- fitting a budget --------------------------------------------------------------------------


TokenCount = Callable[[Interaction], int]


def fit_interactions(
    interactions: Sequence[Interaction], max_tokens: int, count: TokenCount = interaction_tokens
) -> Sequence[Interaction]:
    """The most recent events whose estimated tokens, by `count`, fit. Whole events are dropped, oldest first;
    only when the latest alone is too large are its texts shortened."""
    total, start = 0, len(interactions)
    while start > 0:
        total += count(interactions[start - 1])
        if total > max_tokens:
            break
        start -= 1
    if interactions and start == len(interactions):
        return [_shorten_to_fit(interactions[-1], max_tokens, count)]
    return interactions[start:]


def _shorten_to_fit(interaction: Interaction, max_tokens: int, count: TokenCount) -> Interaction:
    """The event with its texts halved until it fits; 16 characters a text is the least."""
    chars = 2 * max_tokens
    while True:
        chars = max(chars, 16)
        shortened = _shorten(interaction, chars)
        if chars == 16 or count(shortened) <= max_tokens:
            return shortened
        chars //= 2


_TEXT_FIELDS: Final = frozenset(
    ("query", "chosen", "rejected", "clicked", "shown", "item", "review", "considered", "prompt", "text", "messages")
)


def _shorten(interaction: Interaction, chars: int) -> Interaction:
    def short(value: Any) -> Any:
        match value:
            case str():
                return clip_text(value, chars)
            case ItemFields():
                return clip_text(item_text(value), chars)
            case Message():
                return value.model_copy(update={"content": clip_text(value.content, chars)})
            case tuple():
                return tuple(map(short, value[: max(2, chars // 16)]))
            case _:
                return value

    fields = _TEXT_FIELDS & type(interaction).model_fields.keys()
    return interaction.model_copy(update={name: short(getattr(interaction, name)) for name in fields})


def cap_tokens(text: str, tokens: int) -> str:
    """The text, cut at a sentence end to about `tokens`."""
    while (size := estimate_tokens(text)) > max(tokens, 1):
        text = cap_text(text, len(text) * tokens // (size + 1))
    return text


# --- prompts -----------------------------------------------------------------------------------


def update_prompt(past: str | None, interactions: Sequence[Interaction], *, past_tokens: int) -> Prompt:
    """Asks for the summary after `interactions`, given the `past` one; `past=None` is a first or
    full-history inference. `past_tokens` bounds the past summary, at a sentence end."""
    blocks = _tag_block("past_summary", cap_tokens(escape_data(past), past_tokens) if past else "")
    blocks += _tag_block("events", _history_lines(interactions))
    return Prompt("update/2" if past else "first/2", _turns(UPDATE_SYSTEM, [*blocks, UPDATE_REQUEST]))


def chat_prompt(
    messages: Sequence[ChatMessage], *, mode: ChatMode, summary: str | None, history: Sequence[Interaction]
) -> Prompt:
    """The conversation with what is known of the user before it. Messages are passed on unchanged,
    also those with members beyond role and content; only system messages at the start join ours.
    In mode summary, `history` are events that the summary does not include yet; in mode pba only
    the directions of its comparisons are read."""
    if mode == "pba":
        blocks = _tag_block("preferences", describe_directions(history))
    else:
        blocks = _tag_block("preferences", escape_data(summary) if summary and mode == "summary" else "")
        blocks += _tag_block("events", _history_lines(history))
    if mode == "none" or not blocks:
        return Prompt("chat-none/1", list(messages))
    system, rest = lead_with(CHAT_SYSTEM[mode], messages)
    acknowledged = ChatMessage(role="assistant", content=CHAT_ACKNOWLEDGEMENT)
    return Prompt(f"chat-{mode}/2", [*_turns(system, blocks), acknowledged, *rest])


def lead_with(instruction: str, messages: Sequence[ChatMessage]) -> tuple[str, Sequence[ChatMessage]]:
    """`instruction` with the system messages at the start behind it, and the other messages."""
    start = next((i for i, message in enumerate(messages) if message["role"] not in SYSTEM_ROLES), len(messages))
    leading = [content_text(message["content"]) for message in messages[:start]]
    return "\n\n".join([instruction, *leading]), messages[start:]


SYSTEM_ROLES: Final = ("system", "developer")


def describe_directions(history: Iterable[Interaction]) -> str:
    """What the directions of the history's comparisons say, in words; empty when they say nothing."""
    return describe_vectors(
        event.directions for event in history if isinstance(event, ComparisonInteraction) and event.directions
    )


def selection_prompt(
    query: str, items: Sequence[str], summary: str | None, history: Sequence[Interaction] = ()
) -> Prompt:
    """Asks which of 2 to 26 items the user would choose, given the summary or, where there is one,
    the `history` in its place. The last message is the start of the answer: the token that follows
    it is one of `LETTERS`."""
    if not 2 <= len(items) <= MAX_CHOICES:
        raise ValueError(f"a selection has 2 to {MAX_CHOICES} items, not {len(items)}")
    if history:
        blocks = _tag_block("events", _history_lines(history))
    else:
        blocks = _tag_block("preferences", escape_data(summary) if summary else "")
    blocks += _tag("query", query)
    for letter, item in zip(LETTERS, items, strict=False):
        blocks.append(f'<item letter="{letter.strip()}">\n{escape_data(item)}\n</item>')
    prefill = ChatMessage(role="assistant", content=SELECTION_PREFILL)
    if history:
        return Prompt("selection-direct/1", [*_turns(DIRECT_SELECTION_SYSTEM, blocks), prefill])
    return Prompt("selection/1", [*_turns(SELECTION_SYSTEM, blocks), prefill])


def _tag_block(name: str, inner: str) -> list[str]:
    """`inner` is escaped already."""
    return [f"<{name}>\n{inner}\n</{name}>"] if inner else []


def _turns(system: str, blocks: Sequence[str]) -> list[ChatMessage]:
    return [ChatMessage(role="system", content=system), ChatMessage(role="user", content="\n\n".join(blocks))]


def content_text(content: object) -> str:
    """The text of a message's content, which in OpenAI's format may also be a list of parts."""
    if isinstance(content, str):
        return content
    parts = cast("Sequence[dict[str, Any]]", content or ())
    return "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))
