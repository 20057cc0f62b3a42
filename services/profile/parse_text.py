"""The openings of a rendered profile's sentences, and the parser of such a text.

`services.profile.render` writes a profile with these openings. When a user edits that text, the text replaces
the profile's statements: `parse_text` reads each sentence by its opening, and any other sentence as a
statement of the user's.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from services.profile.style_features import FEATURES, terms, words
from services.profile.word_forms import stem
from services.statements.clauses import read_clauses

STYLE_OPENINGS: Mapping[str, float] = {
    "Clearly prefers texts that": 0.35,
    "Tends to prefer texts that": 0.2,
    "Early signs point to texts that": 0.1,
    "Lately prefers texts that": 0.2,
    "Has asked for texts that": 0.6,
}
"""Openings of sentences on style, and how strongly each speaks against 1 for a plain statement."""
TOPIC_OPENINGS: Mapping[str, float] = {
    "Clearly drawn to": 1.0,
    "Tends to pick": 0.6,
    "Has picked": 0.35,
    "Tends to pass over": -0.5,
    "Rarely picks": -0.25,
    "Words that often mark their choices:": 1.0,
    "Words that mark their choices:": 0.5,
    "Words that often mark what they leave:": -0.7,
    "Words that mark what they leave:": -0.4,
    "Has mentioned liking:": 0.6,
    "Has mentioned not liking:": -0.6,
    "Lately picks more of": 0.5,
    "Lately picks less of": -0.3,
}
"""The same for openings of lists of categories and words; below 0 for dislikes."""
PART_WEIGHT = 0.5
"""How strongly a word of a pair speaks, against 1 for the pair."""
OWN_WORDS = "In their own words, newest first:"
ABOUT = "About them:"
YEARS = "Usually takes items from around {year:.0f}, give or take {spread:.0f} years."
NEUTRAL_OPENINGS = ("Based on", "No clear preference", "Nothing is known", "Usually takes items priced", ABOUT)
"""Openings of sentences that hold no liking."""
YEAR, YEAR_SPREAD = "~year", "~years"
"""Names under which the stated years stand among the stated likes."""

_POLES = sorted(
    [
        (pole, feature.name, sign)
        for feature in FEATURES
        for pole, sign in ((feature.low, -1), (feature.high, 1))
        if pole
    ],
    key=lambda entry: -len(entry[0]),
)
_YEARS = re.compile(r"Usually takes items from around (\d{4}), give or take (\d{1,3}) years")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|\n")
_QUOTED = re.compile(r'"([^"]*)"')
_LIST_SEPARATOR = re.compile(r", | and ")


MAX_TARGET_TERMS = 12


class Stated(NamedTuple):
    """What one statement says, each on [-1, 1]."""

    terms: dict[str, float]
    style: dict[str, float]


def parse_statement(text: str, *, statement: bool = True) -> Stated:
    """The words of what a text says is liked or disliked, and its wishes about writing."""
    stated = Stated({}, {})
    for clause in read_clauses(text, statement=statement):
        stated.style.update(clause.style)
        if clause.polarity:
            for word in terms(words(clause.target), MAX_TARGET_TERMS):
                stated.terms[stem(word)] = clause.polarity
    return stated


def join_phrases(phrases: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def parse_text(text: str) -> tuple[Stated, dict[str, int]]:
    """The likes that a text states, each on [-1, 1], and the years it names, by YEAR and YEAR_SPREAD."""
    stated = Stated({}, {})
    years: dict[str, int] = {}
    for line in text.splitlines():
        if line.startswith(OWN_WORDS):
            for quote in reversed(_QUOTED.findall(line)):
                _add(parse_statement(quote), stated)
            continue
        for sentence in _SENTENCE.split(line):
            if dated := _YEARS.match(sentence):
                years = {YEAR: int(dated[1]), YEAR_SPREAD: int(dated[2])}
            elif not sentence.startswith(NEUTRAL_OPENINGS):
                _add(_read_sentence(sentence), stated)
    return Stated(_weigh_parts(stated.terms) | stated.terms, stated.style), years


def _weigh_parts(terms: Mapping[str, float]) -> dict[str, float]:
    """Half of a pair's value for each of its words that is not listed alone. They come first, so that they are
    dropped first."""
    stated: dict[str, float] = {}
    for name, value in terms.items():
        for word in name.split() if " " in name else ():
            stated[word] = max(stated.get(word, 0.0), PART_WEIGHT * value, key=abs)
    return {word: value for word, value in stated.items() if word not in terms and not word.isdigit()}


def _read_sentence(sentence: str) -> Stated:
    for opening, value in STYLE_OPENINGS.items():
        if sentence.startswith(opening):
            return Stated({}, _poles(sentence[len(opening) :], value))
    for opening, value in TOPIC_OPENINGS.items():
        if sentence.startswith(opening):
            names = _LIST_SEPARATOR.split(sentence[len(opening) :].rstrip("."))
            keys = (" ".join(words(name)) for name in names)
            return Stated({key: value for key in keys if key}, {})
    return parse_statement(sentence)


def _poles(rest: str, value: float) -> dict[str, float]:
    stated = {}
    for pole, name, sign in _POLES:
        if pole in rest:
            stated[name] = sign * value
            rest = rest.replace(pole, "")
    return stated


def _add(quote: Stated, stated: Stated) -> None:
    for new, known in ((quote.terms, stated.terms), (quote.style, stated.style)):
        for name, value in new.items():
            known.pop(name, None)
            known[name] = value
