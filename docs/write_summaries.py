"""Writes docs/results/summaries.md: what the suite says of twelve invented people, and what each sentence rests on.

    .venv/bin/python -m docs.write_summaries

The histories stand in examples/*.jsonl and examples/people/*.jsonl, one event a line. Each is folded into the fast
profile as the ingest does; no language model writes. A test compares the page with what this prints.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from alignx.schemas.interactions import (
    INTERACTION,
    ClickInteraction,
    ComparisonInteraction,
    DialogueInteraction,
    Interaction,
    PurchaseInteraction,
    RatingInteraction,
)
from alignx.schemas.items import Item, ItemFields
from alignx.schemas.summaries import Claim
from services.profile.fold import fold
from services.profile.render import make_claims, render
from services.profile.statistics import EMPTY

_ROOT: Final = Path(__file__).parent.parent
PAGE: Final = _ROOT / "docs/results/summaries.md"
PEOPLE: Final[Mapping[str, str]] = {
    "people/ines": "a nurse in Valencia who cooks; in Spanish",
    "people/jonas": "a player of board games from Kassel who hikes; in German",
    "people/amelie": "a bookseller in Lyon who watches old films; in French",
    "people/kenji": "an office worker in Nagoya who photographs trains; in Japanese",
    "people/li_na": "a drinker of tea who takes up pottery; in Chinese",
    "people/omar": "an engineer in Amman who follows football; in Arabic",
    "people/priya": "a student in Pune who does yoga; in English and Hindi",
    "people/tomas": "a player of strategy games who likes to eat well; in English and Portuguese",
    "people/ruth": "a retired teacher in Whitby with a garden; in English",
    "news_reader": "a reader who turns from football to cycling and the climate; in English",
    "shopper": "a shopper who turns from cheap gadgets to gear that lasts; in English",
    "forum_writer": "a baker who turns from short jokes to long answers; in English",
}
_LONGEST: Final = 110
"""Characters of an event that are shown."""


def load_history(name: str) -> list[Interaction]:
    lines = (_ROOT / f"examples/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [INTERACTION.validate_json(line) for line in lines]


def render_page() -> str:
    """The whole page."""
    return "\n".join(
        [
            "# Twelve people and what is said of them",
            "",
            "<!-- written by python -m docs.write_summaries -->",
            "",
            "Invented people with ordinary histories (`examples/`, one event a line), and the summaries that the fast",
            "profile writes of them, without a language model. Below each sentence stand the events that it names, by",
            "their line, and since when it holds. What a user asks to forget, orders to a model, and what they tell of",
            "friends and relatives is in the histories and in no summary ([claims](../how-to/claims.md)).",
            *(line for name, about in PEOPLE.items() for line in _tell_person(name, about)),
            "",
        ]
    )


def _tell_person(name: str, about: str) -> list[str]:
    history, profile = load_history(name), EMPTY
    for event in history:
        profile, _ = fold(profile, event, event.occurred_at)
    lines = {f"{event.occurred_at.timestamp() * 1000:.0f}-{line}": line for line, event in enumerate(history, 1)}
    counts = Counter(event.type for event in history)
    days = [f"{event.occurred_at:%-d %B %Y}" for event in (history[0], history[-1])]
    kinds = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.most_common())
    text = [f"> {line}  " for line in render(profile).splitlines()]
    claims = make_claims(profile, list(lines))
    return [
        "",
        f"## {name.rpartition('/')[2]}: {about}",
        "",
        f"`examples/{name}.jsonl`, {len(history)} events from {days[0]} to {days[1]}: {kinds}.",
        "",
        *text,
        "",
        *(line for claim in claims for line in _tell_claim(claim, lines, history)),
    ]


def _tell_claim(claim: Claim, lines: Mapping[str, int], history: list[Interaction]) -> list[str]:
    since = f", since {claim.since:%-d %B %Y}" if claim.since else ""
    counted = f"{claim.count} event{'s' if claim.count > 1 else ''}"
    return [
        f"- {claim.text} ({claim.kind}, {counted}{since})",
        *(f"  - {lines[event_id]}: {tell_event(history[lines[event_id] - 1])}" for event_id in claim.support),
    ]


def tell_event(event: Interaction) -> str:
    """What an event says, in a line."""
    match event:
        case ComparisonInteraction(query=query, chosen=chosen, rejected=rejected):
            told = f"asked “{query}”, chose “{_cut(chosen, 40)}” over “{_cut(rejected, 40)}”"
        case ClickInteraction(clicked=clicked, shown=shown):
            told = f"clicked “{_cut(clicked)}”{_tell_others(clicked, shown)}"
        case PurchaseInteraction(item=item, considered=considered):
            told = f"bought “{_cut(item)}”{_tell_others(item, considered)}"
        case RatingInteraction(item=item, value=value, scale=scale):
            told = f"rated “{_cut(item)}” {value:g} of {scale[1]:g}"
        case DialogueInteraction(messages=messages):
            told = f"said “{_cut(' / '.join(turn.content for turn in messages if turn.role == 'user'))}”"
        case _:
            told = f"{'wrote' if event.type == 'post' else 'said'} “{_cut(event.text)}”"
    return told


def _tell_others(taken: Item, others: Sequence[Item]) -> str:
    passed = [f"“{_cut(item, 50)}”" for item in others if item != taken]
    return f", not {' or '.join(passed)}" if passed else ""


def _cut(item: Item, most: int = _LONGEST) -> str:
    text = item
    if isinstance(item, ItemFields):
        price = f"{item.price:g}" if isinstance(item.price, float) else item.price
        currency = (item.model_extra or {}).get("currency")
        facts = ", ".join(fact for fact in (item.category, price and f"{price} {currency or ''}".strip()) if fact)
        text = f"{item.title} ({facts})" if facts else item.title
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


if __name__ == "__main__":
    PAGE.write_text(render_page(), encoding="utf-8")
