"""The prompts of AlignXplore+ and AlignXplore: a history is a list of triples of query, chosen and rejected item.

The texts come from a profile file (alignxplore-plus.toml, alignxplore.toml, or one by services/prompts/official.py);
this module makes triples of events and fills the texts. docs/how-to/released-checkpoint.md has the table of events.
Pure functions: the same texts and events give the same bytes.

The format delimits data by headings that ordinary text does not hold, and escapes nothing. So a text is passed on as
it is, but for what could be taken for a heading, a tag of ours or a control token.
"""

import re
import tomllib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from alignx.schemas.interactions import (
    ClickInteraction,
    ComparisonInteraction,
    DemographicInteraction,
    DialogueInteraction,
    Interaction,
    PostInteraction,
    PurchaseInteraction,
    RatingInteraction,
    StatementInteraction,
)
from alignx.schemas.items import MAX_CHOICES, Item, ItemFields, item_facts, item_text
from services.prompts.build import (
    ASSISTANT_CONTEXT_CHARS,
    LETTERS,
    MAX_EVENT_NUMBER,
    ChatMessage,
    Prompt,
    cap_tokens,
    estimate_tokens,
    pair_ratings,
)
from services.prompts.control_tokens import break_tokens, strip_invisible
from services.prompts.sentences import clip_text
from services.prompts.templates import SELECTION_PREFILL

# --- texts -------------------------------------------------------------------------------------

_NAME = re.compile(r"\{([a-z_]+)\}")
PLACEHOLDERS: Final = {
    "user": {"past", "triples"},
    "triple": {"number", "query", "chosen", "rejected"},
    "selection_user": {"choices", "query", "summary", "items"},
    "selection_item": {"letter", "item"},
    "selection_history": {"triples"},
}
"""The names that stand for data in each template."""
QUERIES: Final = frozenset(("news", "movies", "books", "other", "post", "dialogue", "demographic", "statement"))


class Texts(BaseModel):
    """A profile file; alignxplore-plus.toml describes the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    system: str
    user: str
    triple: str
    no_past: str
    no_past_whole: str
    selection_system: str
    selection_user: str
    selection_item: str
    selection_history: str
    no_rejected: str
    queries: dict[str, str]

    @model_validator(mode="after")
    def _check_names(self) -> "Texts":
        for field, names in PLACEHOLDERS.items():
            if lacking := names - set(_NAME.findall(getattr(self, field))):
                raise ValueError(f"{field} lacks {{{sorted(lacking)[0]}}}")
        if missing := QUERIES - self.queries.keys():
            raise ValueError(f"queries lacks {sorted(missing)[0]}")
        return self


def read_texts(path: Path) -> Texts:
    """Raises ValueError for a file that is no profile file."""
    try:
        return Texts.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a prompt profile: {error}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, problem['loc']))} {problem['msg']}" for problem in error.errors())
        raise ValueError(f"{path} is no prompt profile: {problems.strip()}") from error


def _fill(template: str, **values: object) -> str:
    """In one pass, so that a value which holds a name in braces stays as it is."""
    return _NAME.sub(lambda match: str(values.get(match[1], match[0])), template)


# --- data --------------------------------------------------------------------------------------

# Each in time that grows with the text alone: runs are possessive and begin where they begin.
_HEADING = re.compile(r"(?<!=)={4,}+([^=\n]{1,80})={4,}+")
_PART = re.compile(
    r"(?<!\*)\*++((?:post|query|chosen|rejected|(?:chosen|rejected) item by the user"
    r"|past preferences|chosen and rejected items):)\*++",
    re.IGNORECASE,
)
_RULE = re.compile(r"^([^\S\n]*+)\*{5}(?=[^\S\n]*+$)", re.MULTILINE)
_TAG = re.compile(r"<(?=\s{0,4}/?\s{0,4}(?:answer|prompt|preference|item\s{1,4}[a-z])\s{0,4}>)", re.IGNORECASE)


def escape_data(text: str) -> str:
    """The text without hidden characters, and so that nothing in it reads as part of the format or as a control token.
    Ordinary text stays byte for byte."""
    text = _HEADING.sub(r"===\1===", strip_invisible(text))
    text = _RULE.sub(r"\1***", _PART.sub(r"\1", text))
    return break_tokens(_TAG.sub("&lt;", text))


_SOURCES: Final = {
    "news": ("news", "mind"),
    "movies": ("movies", "movie", "films", "film", "movielens"),
    "books": ("books", "book", "amazon"),
}
_KIND_OF_SOURCE: Final = {name: kind for kind, names in _SOURCES.items() for name in names}


def _kind(source: str | None) -> str:
    return _KIND_OF_SOURCE.get((source or "").lower(), "other")


def item_block(item: Item, source: str | None = None) -> str:
    """An item as the family writes it: `Title: …, Genres: a|b` for films, else a line a field, the description last."""
    if not isinstance(item, ItemFields):
        return item
    facts, title, label = item_facts(item), f"Title: {item.title}", "Description"
    match _kind(source):
        case "movies" if genres := facts.pop("genres", "") or facts.pop("category", ""):
            title = f"{title}, Genres: {genres.replace(', ', '|')}"
        case "news":
            label = "Abstract"
    lines = [title, *(f"{name.capitalize()}: {value}" for name, value in facts.items())]
    return "\n".join([*lines, f"{label}: {item.description}"] if item.description else lines)


# --- events ------------------------------------------------------------------------------------


class Triple(NamedTuple):
    query: str
    chosen: str
    rejected: str


def _iterate_triples(interactions: Sequence[Interaction], texts: Texts) -> Iterator[Triple]:
    """The events as triples. A click, purchase or rating without a rejected item is none: a made-up one would teach a
    preference that nobody has."""
    for event, opposite in pair_ratings(interactions):
        match event:
            case ComparisonInteraction(query=query, chosen=chosen, rejected=rejected):
                yield _choice(query, chosen, rejected, event.source, texts)
            case ClickInteraction() | PurchaseInteraction() if pairs := event.pairs():
                # One of the items left, as good as at random: always the first would teach positions.
                texts_left = "\n".join(item_text(pair.rejected) for pair in pairs)
                pair = pairs[zlib.crc32(texts_left.encode("utf-8", "replace")) % len(pairs)]
                yield _choice(pair.query, pair.chosen, pair.rejected, event.source, texts)
            case RatingInteraction() if opposite is not None:
                best, worst = (event, opposite) if event.liking > 0 else (opposite, event)
                yield _choice(None, _rated(best), _rated(worst), event.source, texts)
            case PostInteraction(prompt=prompt, text=text):
                yield Triple(prompt or texts.queries["post"], text, texts.no_rejected)
            case DialogueInteraction():
                yield Triple(texts.queries["dialogue"], _dialogue(event), texts.no_rejected)
            case DemographicInteraction(text=text) | StatementInteraction(text=text):
                yield Triple(texts.queries[event.type], text, texts.no_rejected)


def _choice(query: str | None, chosen: Item, rejected: Item, source: str | None, texts: Texts) -> Triple:
    return Triple(query or texts.queries[_kind(source)], item_block(chosen, source), item_block(rejected, source))


def _rated(rating: RatingInteraction) -> str:
    text = item_block(rating.item, rating.source)
    return f"{text}\nReview: {rating.review}" if rating.review else text


def _dialogue(event: DialogueInteraction) -> str:
    return "\n".join(
        f"User: {turn.content}"
        if turn.role == "user"
        else f"Assistant: {clip_text(turn.content, ASSISTANT_CONTEXT_CHARS)}"
        for turn in event.messages
    )


# --- the profile -------------------------------------------------------------------------------


class AlignXplorePlus:
    """A `PromptProfile` of one profile file."""

    max_tokens = 4_096
    """With the thought before the summary, as published."""

    def __init__(self, texts: Texts) -> None:
        self.texts = texts

    def update_prompt(
        self, past: str | None, interactions: Sequence[Interaction], *, past_tokens: int, whole_history: bool = False
    ) -> Prompt:
        kind = "update" if past else "whole" if whole_history else "first"
        no_past = self.texts.no_past_whole if whole_history else self.texts.no_past
        shown = cap_tokens(escape_data(past).strip(), past_tokens) if past else no_past
        user = _fill(self.texts.user, past=shown, triples=self._history(interactions))
        return Prompt(f"{kind}-{self.texts.name}", _turns(self.texts.system, user))

    def selection_prompt(
        self, query: str, items: Sequence[Item], summary: str | None, history: Sequence[Interaction] = ()
    ) -> Prompt:
        if not 2 <= len(items) <= MAX_CHOICES:
            raise ValueError(f"a selection has 2 to {MAX_CHOICES} items, not {len(items)}")
        letters = [letter.strip() for letter in LETTERS[: len(items)]]
        if has_history := self.shows(history):
            shown = _fill(self.texts.selection_history, triples=self._history(history))
        else:
            shown = escape_data(summary) if summary else self.texts.no_past
        blocks = [
            _fill(self.texts.selection_item, letter=letter, item=escape_data(item_block(item)))
            for letter, item in zip(letters, items, strict=True)
        ]
        user = _fill(
            self.texts.selection_user,
            choices=" / ".join(f"Item {letter}" for letter in letters),
            query=escape_data(query or self.texts.queries["other"]),
            summary=shown,
            items="\n\n".join(blocks),
        )
        prefill = ChatMessage(role="assistant", content=SELECTION_PREFILL)
        kind = "selection-direct" if has_history else "selection"
        return Prompt(f"{kind}-{self.texts.name}", [*_turns(self.texts.selection_system, user), prefill])

    def interaction_tokens(self, interaction: Interaction) -> int:
        if isinstance(interaction, RatingInteraction):  # at most: a rating may be no triple, or half of one
            return self._tokens(Triple("", _rated(interaction), ""))
        return sum(map(self._tokens, _iterate_triples([interaction], self.texts)))

    def shows(self, interactions: Sequence[Interaction]) -> bool:
        return next(_iterate_triples(interactions, self.texts), None) is not None

    def _tokens(self, triple: Triple) -> int:
        return estimate_tokens(self._triple(MAX_EVENT_NUMBER, triple)) + 1

    def _history(self, interactions: Sequence[Interaction]) -> str:
        triples = enumerate(_iterate_triples(interactions, self.texts), start=1)
        return "\n\n".join(self._triple(number, triple) for number, triple in triples)

    def _triple(self, number: int, triple: Triple) -> str:
        query, chosen, rejected = map(escape_data, triple)
        return _fill(self.texts.triple, number=number, query=query, chosen=chosen, rejected=rejected)


def _turns(system: str, user: str) -> list[ChatMessage]:
    """Without a system text the prompt is one turn."""
    turns = [ChatMessage(role="system", content=system)] if system else []
    return [*turns, ChatMessage(role="user", content=user.strip())]
