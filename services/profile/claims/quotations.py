"""What the user said, in their own words: what holds, what was said in passing, what no longer holds.

A request to forget something is kept and not quoted, nor is what it speaks of, nor what else `withheld` hides.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import groupby
from typing import Final

from alignx.schemas.summaries import MAX_SUPPORT
from services.profile.claims.evidence import Sentence
from services.profile.claims.standing import pole_of
from services.profile.parse_text import ABOUT, IN_PASSING, NEWEST_FIRST, NO_LONGER, OWN_WORDS, WENT_FOR, join_phrases
from services.profile.stated.allowed import Allowed
from services.profile.stated.clauses import roots_of
from services.profile.statistics import PLAIN, Profile, StatedClause
from services.profile.style_features import INDEX
from services.profile.word_forms import root

MAX_QUOTES: Final = 12
MAX_QUOTED: Final = {OWN_WORDS: 700, ABOUT: 300, IN_PASSING: 600, NO_LONGER: 300}
"""Bytes of quotations in one sentence; one is always told. About four bytes are a token, in any script."""
MAX_WISHES, MAX_OPTIONS, MAX_CHANGES = 6, 3, 3
REVIEW: Final = 30
"""Weight of what a review says, which tells little without its item."""
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_SELF: Final = re.compile(r"\b(?:I|me|we|us)\b|\b(?:I|we)['’]", re.IGNORECASE)
"""Of a person who speaks of themselves: "corrections are welcome" tells no taste."""
_OPTION: Final = re.compile(r"\b(?:option|number|choice|suggestion) #?\d", re.IGNORECASE)
_EMPTY: Final = frozenset(
    map(
        root,
        (
            *("idea", "thing", "way", "lot", "help", "advice", "suggestion", "option", "learn", "more", "some"),
            *(
                "wow",
                "yes",
                "thanks",
                "great",
                "good",
                "nice",
                "wonderful",
                "amazing",
                "fantastic",
                "excellent",
                "perfect",
                "helpful",
            ),
        ),
    )
)
"""Words that say nothing of what was liked in passing: "those are great ideas"."""


def say(profile: Profile, allowed: Allowed) -> Iterator[Sentence]:
    """The sentences that quote the user. What they wrote over the summary heads the text already."""
    quotable = [
        clause
        for clause in profile.clauses
        if allowed.may_quote(clause.quote, clause.language, clause.event)
        and not (clause.quote and clause.quote in profile.own)
    ]
    plain = [clause for clause in quotable if clause.weight == PLAIN]
    wished = {clause.quote for clause in plain if clause.kind != "fact"}
    yield from _quote("stated", OWN_WORDS, (clause for clause in plain if clause.kind != "fact"))
    yield from _quote("fact", ABOUT, (clause for clause in plain if clause.quote not in wished))
    passing = [clause for clause in quotable if clause.weight < PLAIN]
    poles = {pole_of(INDEX[name], value): c for c in passing if not c.is_struck for name, value in c.style}
    if poles:
        asked = list(poles)[-MAX_WISHES:]
        yield _rest_on("style:asked", "stated", f"Has asked for texts that {join_phrases(asked)}.", poles.values())
    yield from _quote("stated", IN_PASSING, (clause for clause in passing if _tells_in_passing(clause)))
    options = [clause for clause in passing if clause.target and not (clause.quote or clause.is_struck)]
    taken = [clause for clause in options if _may_name(clause, allowed)]
    if taken:
        names = list(dict.fromkeys(f'"{clause.target}"' for clause in reversed(taken)))[:MAX_OPTIONS]
        yield _rest_on("stated:taken", "stated", f"{_open(WENT_FOR, names)} {', '.join(names)}", taken)
    yield from _struck(quotable)


def _may_name(option: StatedClause, allowed: Allowed) -> bool:
    """An option is in an assistant's words, so that the user spoke of nothing by it."""
    return allowed(option.target) and allowed.may_quote(option.target, option.language, option.event)


def _tells_in_passing(clause: StatedClause) -> bool:
    if clause.weight <= REVIEW or not clause.polarity or _OPTION.search(clause.quote):
        return False
    if clause.language == "en" and not _SELF.search(clause.quote):
        return False
    return not _EMPTY.issuperset(roots_of(clause.target))


def _quote(kind: str, opening: str, clauses: Iterable[StatedClause]) -> Iterator[Sentence]:
    """Quotations that still hold, newest first: of likes and dislikes before others, where there is no room for all."""
    listed = [clause for clause in clauses if clause.quote]
    struck = {clause.quote for clause in listed if clause.is_struck and not _is_of_the_past(clause)}
    latest = {
        clause.quote: clause
        for clause in listed
        if _is_of_the_past(clause) or (not clause.is_struck and (clause.quote not in struck or _tells(clause)))
    }
    chosen = _choose(sorted(latest.values(), key=lambda clause: not clause.polarity), MAX_QUOTED[opening])
    if chosen:
        yield _rest_on(f"{kind}:{opening}", kind, f"{_open(opening, chosen)} {_dated(chosen)}", chosen)


def _choose(clauses: Sequence[StatedClause], room: int) -> list[StatedClause]:
    """As many as there is room for, newest first; without those that another one holds."""
    quotes, chosen = {clause.quote for clause in clauses}, list[StatedClause]()
    newest = sorted(clauses, key=_newest)
    for clause in sorted(newest, key=lambda clause: not clause.polarity)[:MAX_QUOTES]:
        size = len(clause.quote.encode())
        is_held = any(clause.quote in other and clause.quote != other for other in quotes)
        if (size <= room or not chosen) and not is_held:
            chosen.append(clause)
            room -= size
    return sorted(chosen, key=_newest)


def _newest(clause: StatedClause) -> tuple[int, int]:
    return -clause.day, -clause.event


def _tells(clause: StatedClause) -> bool:
    return bool(clause.polarity or clause.style)


def _is_of_the_past(clause: StatedClause) -> bool:
    """Whether the user said it as no longer so: "I no longer eat meat" itself holds."""
    return clause.is_struck and not _tells(clause) and clause.kind != "fact"


def _open(opening: str, quotes: Sequence[object]) -> str:
    return f"{opening}{NEWEST_FIRST if len(quotes) > 1 else ''}:"


def _dated(clauses: Sequence[StatedClause]) -> str:
    """Quotations, with the month behind the last of each month."""
    groups = groupby(clauses, key=lambda clause: _name_month(clause.day))
    return "; ".join(", ".join(f'"{clause.quote}"' for clause in group) + month for month, group in groups)


def _name_month(day: int) -> str:
    said = date.fromordinal(day) if day else None
    return f" ({_MONTHS[said.month - 1]} {said.year})" if said else ""


def _struck(clauses: Sequence[StatedClause]) -> Iterator[Sentence]:
    """What the user took back, or says the contrary of by now; not what still holds in another clause."""
    holding = {clause.quote for clause in clauses if not clause.is_struck and _tells(clause)}
    struck = {c.quote: c for c in clauses if c.is_struck and c.quote and not _is_of_the_past(c)}
    listed = [clause for quote, clause in struck.items() if quote not in holding]
    latest = _choose(listed, MAX_QUOTED[NO_LONGER])[:MAX_CHANGES]
    if latest:
        yield _rest_on("change:said", "change", f"{_open(NO_LONGER, latest)} {_dated(latest)}", latest)


def _rest_on(key: str, kind: str, text: str, clauses: Iterable[StatedClause]) -> Sentence:
    days = {clause.event: clause.day for clause in clauses if clause.event > 0}
    numbers = sorted(days)
    first = min(numbers, default=0)
    return Sentence(key, kind, text, tuple(numbers[-MAX_SUPPORT:]), len(numbers), first, days.get(first, 0))
