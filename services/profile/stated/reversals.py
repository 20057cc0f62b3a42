"""Whether a newer statement takes back an older one without naming it: "I'm vegetarian", then "I eat meat again".

Diets and kinds of things are those of kinds.toml; opposite states of a person stand in opposites.toml.
"""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from services.profile.stated.kinds import Mentions, find_kind
from services.profile.statistics import StatedClause
from services.profile.style_features import words
from services.profile.word_forms import mentions
from services.statements.cue_lexicon import LANGUAGES, load_lexicon
from services.statements.normalize import UNSPACED, fold

_DATA: Final = tomllib.loads(Path(__file__).with_name("opposites.toml").read_text(encoding="utf-8"))
_UNSPACED: Final = re.compile(rf"[{UNSPACED}]")
_MARKS: Final = str.maketrans(dict.fromkeys('.,;:!?¡¿()"“”', " "))


def takes_back(old: StatedClause, new: StatedClause) -> bool:
    """Whether both cannot hold, though they share no word."""
    if old.is_struck or "?" in new.quote or new.polarity < 0:
        return False
    return _takes_up(old, new) or _keeps_from(new, old) or _are_opposite(old, new)


def _takes_up(old: StatedClause, new: StatedClause) -> bool:
    """Whether the newer one uses again, or likes, what the older avoids."""
    kind = find_kind(old.target, old.language) if old.target and old.polarity else None
    if kind is None or kind.is_diet != (old.polarity > 0) or new.language not in LANGUAGES:
        return False
    if new.polarity > 0:
        return kind.is_diet and find_kind(new.target, new.language) != kind and kind.sign_in(_mentions(new.target)) < 0
    lexicon = load_lexicon(new.language)
    keys = [token.key for token in lexicon.tokenize(new.quote)]
    if not _names(new.quote, _DATA["again"][new.language]) or not lexicon.negators.isdisjoint(keys):
        return False
    verbs = {
        place for found in lexicon.find(keys) if found.cue.kind == "use" for place in range(found.start, found.end)
    }
    said = ("" if lexicon.is_unspaced else " ").join(key for place, key in enumerate(keys) if place not in verbs)
    return kind.members.sign_in(_mentions(said)) > 0


def _keeps_from(new: StatedClause, old: StatedClause) -> bool:
    """Whether the newer one is a diet that goes without what the older likes."""
    if old.polarity <= 0 or new.polarity <= 0 or not (new.target and old.target):
        return False
    kind = find_kind(new.target, new.language)
    return kind is not None and kind.is_diet and kind.sign_in(_mentions(old.target)) < 0


def _mentions(text: str) -> Mentions:
    tokens = words(text)
    return Mentions(tokens, mentions(tokens))


def _are_opposite(old: StatedClause, new: StatedClause) -> bool:
    sides = _sides(new)
    return any((place, not is_one) in sides for place, is_one in _sides(old)) if sides else False


def _sides(clause: StatedClause) -> frozenset[tuple[int, bool]]:
    """The pairs of which a clause names one side alone, and whether it is the first."""
    named = [(_names_any(clause, pair["one"]), _names_any(clause, pair["other"])) for pair in _DATA["pairs"]]
    return frozenset((place, one) for place, (one, other) in enumerate(named) if one != other)


def _names_any(clause: StatedClause, listed: Mapping[str, str]) -> bool:
    """In its own language, where the text shows one."""
    known = clause.language in LANGUAGES and clause.kind != "none"
    return any(
        _names(clause.quote, phrases)
        for language, phrases in listed.items()
        if not known or language == clause.language
    )


def _names(quote: str, phrases: str) -> bool:
    text = f" {' '.join(fold(quote).translate(_MARKS).split())} "
    return any(phrase in text for phrase in _split(phrases))


@cache
def _split(phrases: str) -> tuple[str, ...]:
    """Each between spaces, but for scripts that set none."""
    folded = [fold(phrase.strip()) for phrase in phrases.split(",")]
    return tuple(phrase if _UNSPACED.match(phrase) else f" {phrase} " for phrase in folded)
