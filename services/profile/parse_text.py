"""The openings of a rendered profile's sentences, and the parser of such a text.

`services.profile.render` writes a profile with these openings. When a user edits that text, the text replaces
the profile's statements: `parse_text` reads each sentence by its opening, and any other sentence as a
statement of the user's.
"""

import re
from collections.abc import Mapping, Sequence

from services.profile.statistics import SAID_IN_PASSING
from services.profile.style_features import FEATURES, words
from services.statements.attitudes import Clause
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
    "Also clearly drawn to": 1.0,
    "Tends to pick": 0.6,
    "Has picked": 0.35,
    "Cares little for": -0.5,
    "Tends to pass over": -0.5,
    "Cares less for": -0.25,
    "Rarely picks": -0.25,
    "Words that often mark their choices:": 1.0,
    "Words that mark their choices:": 0.5,
    "Words that often mark what they leave:": -0.7,
    "Words that mark what they leave:": -0.4,
    "Often chooses what mentions": 1.0,
    "Has taken, for example,": 0.3,
    "Lately picks more of": 0.8,
    "Lately picks less of": -0.8,
}
"""The same for openings of lists of categories and words; below 0 for dislikes."""
OWN_WORDS = "In their own words"
IN_PASSING = "Mentioned in passing"
NEWEST_FIRST = ", newest first"
WENT_FOR = "Went for these suggestions"
ABOUT = "About them"
NO_LONGER = "No longer holds"
WENT = 0.4
"""How strongly a suggestion that was taken speaks, against 1 for a plain statement."""
EXAMPLE = 0.3
"""How strongly the title of an example speaks against 1 for a plain statement."""
YEARS = "Lately takes items from around {year:.0f}, give or take {spread:.0f} years."
PAYS = "Usually pays"
PRICED = "Usually takes items priced"
PRICED_FROM = "Takes items priced from"
NEUTRAL_OPENINGS = (
    "Based on",
    "No clear preference",
    "Nothing is known",
    PAYS,
    PRICED,
    PRICED_FROM,
    NO_LONGER,
    ABOUT,
)
"""Openings of sentences that hold no liking."""
_POLES = sorted(
    [
        (pole, feature.name, sign)
        for feature in FEATURES
        for pole, sign in ((feature.low, -1), (feature.high, 1))
        if pole
    ],
    key=lambda entry: -len(entry[0]),
)
_YEARS = re.compile(r"(?:Lately|Usually) takes items from around (\d{4}), give or take (\d{1,3}) years")
_BETWEEN = r"(?<=[.!?])\s+(?=[A-Z])"
_SENTENCE = re.compile(_BETWEEN + r"|\n")
_OUTSIDE_TITLES = re.compile(_BETWEEN + r"(?![^“”]*”)|\n")
_QUOTED = re.compile(r'"([^"]*)"')
_TITLE = re.compile(r"“([^”]*)”")
_EXAMPLES = ", for example "
_LIST_SEPARATOR = re.compile(r", | and ")


def join_phrases(phrases: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def split_sentences(text: str) -> list[str]:
    """A sentence goes on within a “title”."""
    return (_OUTSIDE_TITLES if "”" in text else _SENTENCE).split(text)


def parse_text(text: str) -> tuple[list[Clause], tuple[int, int] | None]:
    """What a text says of likes and styles, and the year that it names, with a number of years around it."""
    clauses: list[Clause] = []
    years = None
    for line in text.splitlines():
        if line.startswith((OWN_WORDS, IN_PASSING)):
            weight = 1.0 if line.startswith(OWN_WORDS) else SAID_IN_PASSING
            for quote in reversed(_QUOTED.findall(line)):
                clauses += [clause._replace(polarity=weight * clause.polarity) for clause in read_clauses(quote)]
            continue
        if line.startswith(WENT_FOR):
            clauses += [Clause("", option, WENT, "like") for option in reversed(_QUOTED.findall(line))]
            continue
        for sentence in split_sentences(line):
            if dated := _YEARS.match(sentence):
                years = int(dated[1]), int(dated[2])
            elif not sentence.startswith(NEUTRAL_OPENINGS):
                clauses += _read_sentence(sentence)
    return clauses, years


def _read_sentence(sentence: str) -> list[Clause]:
    for opening, value in STYLE_OPENINGS.items():
        if sentence.startswith(opening):
            return [Clause("", "", 0.0, "want", _poles(sentence[len(opening) :], value))]
    for opening, value in TOPIC_OPENINGS.items():
        if sentence.startswith(opening):
            listed, _, examples = sentence[len(opening) :].partition(_EXAMPLES)
            names = [name.strip(" “”.") for name in _LIST_SEPARATOR.split(listed)]
            clauses = [Clause("", title, EXAMPLE * value, "like") for title in _TITLE.findall(examples)]
            clauses += [Clause("", name, value, "like" if value > 0 else "dislike") for name in names]
            return [clause for clause in clauses if words(clause.target)]
    return read_clauses(sentence)


def _poles(rest: str, value: float) -> dict[str, float]:
    stated = {}
    for pole, name, sign in _POLES:
        if pole in rest:
            stated[name] = sign * value
            rest = rest.replace(pole, "")
    return stated
