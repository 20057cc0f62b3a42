"""What is kept of a user's words and never quoted: requests to forget, orders to a model, private facts of others.

    hides("Vergiss, dass ich schwanger war.", "de")  # True
    hides("My husband is a nurse.", "en")  # True
    hides("I cook for my husband.", "en")  # False

Requests and orders stand in withheld.toml in the twelve languages of the lexicons; who is another person, in those.
"""

import re
import tomllib
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from services.profile.stated.sensitive import find_subjects
from services.profile.stated.subjects import subject_of
from services.profile.word_forms import root
from services.statements.cue_lexicon import LANGUAGES, Lexicon, load_data, load_lexicon, load_vocabulary
from services.statements.normalize import UNSPACED, WORD, fold_cue
from services.statements.segments import Segment, Sentence, cut_sentence

_DATA: Final = tomllib.loads(Path(__file__).with_name("withheld.toml").read_text(encoding="utf-8"))
_SENTENCE: Final = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？।؟])")
_BEGINNING: Final = r"(?:\A|[.!?,;:。！？，、؟،।])[\s\"'“”«»]*"
_NAME: Final = re.compile(rf"[{UNSPACED}]+|{WORD}")
_UNSPACED: Final = re.compile(rf"[{UNSPACED}]")
_UNMARKED: Final = frozenset(("ja", "ar"))
"""Languages in which "wife" alone, or in one word with "my", is the speaker's."""


def _listed(name: str) -> str:
    patterns = (pattern for language in LANGUAGES for pattern in _DATA[language].get(name, ()))
    return "|".join(map(fold_cue, patterns))


_FORGET: Final = re.compile(
    rf"{_BEGINNING}(?:(?:{fold_cue(_DATA['polite'])})[, ]*)*(?:{_listed('forget')})|{_listed('forget_last')}"
)
_ORDERS: Final = re.compile(_listed("orders"))
_EVERYTHING: Final = re.compile(fold_cue(_DATA["everything"]))
_EXCEPT: Final = re.compile(fold_cue(_DATA["except"]))
_OPINION: Final = re.compile(rf"\A\W*(?:{_DATA['opinion']})\s*", re.IGNORECASE)
"""What an opinion on somebody begins with: "I think that"."""
_HOLLOW_CHARACTERS: Final = re.compile(f"[{_DATA['hollow']}\u3041-\u309f]")
_TELLING: Final = frozenset(root(fold_cue(word)) for word in _DATA["telling"].split("|"))
"""Roots of words that tell no subject of a request."""


@lru_cache(maxsize=4_096)
def hides(quote: str, language: str) -> bool:
    """Whether it asks to forget something, gives a model orders, or tells private facts of somebody else."""
    return asks_to_forget(quote) or bool(_ORDERS.search(fold_cue(quote))) or _tells_of_another(quote, language)


@lru_cache(maxsize=4_096)
def asks_to_forget(quote: str) -> bool:
    return _FORGET.search(fold_cue(quote)) is not None


class Request(NamedTuple):
    """What a user asks to forget."""

    names: frozenset[str]
    """Subjects, as `name_subjects` gives them: those to forget, or of a request for everything those to keep."""
    is_all: bool
    """Whether it is of everything that was said: "Forget everything I told you.", "… except that I like jazz."."""

    def covers(self, quote: str, language: str) -> bool:
        return self.names.isdisjoint(name_subjects(quote, language)) == self.is_all


def read_request(quote: str, language: str) -> Request:
    """Of a quotation that asks to forget something."""
    text = fold_cue(quote)
    names, is_of_all = name_subjects(quote, language), _EVERYTHING.search(text) is not None
    return Request(names, is_of_all and (not names or _EXCEPT.search(text) is not None))


@lru_cache(maxsize=4_096)
def name_subjects(quote: str, language: str) -> frozenset[str]:
    """What a quotation speaks of, beside a request to forget it: roots of words, pairs of unspaced characters."""
    rest = _EXCEPT.sub(" ", _EVERYTHING.sub(" ", _FORGET.sub(" ", fold_cue(quote))))
    if language not in LANGUAGES or language == "en":
        return frozenset(map(root, subject_of(rest).split())) - _TELLING
    known, names = load_vocabulary(language), set[str]()
    for word in _NAME.findall(rest):
        if _UNSPACED.match(word):
            for run in _HOLLOW_CHARACTERS.sub(" ", word).split():
                names |= set(map("".join, pairwise(run))) if run[1:] else {run}.difference(known)
        elif word not in known and len(word) > 1:
            names.add(root(word))
    return frozenset(names) - _TELLING


# --- other people ---------------------------------------------------------------------------------


def _tells_of_another(quote: str, language: str) -> bool:
    """Whether a part of it says something of a relative or a friend that is no taste, or what is sensitive of somebody
    named before. What they must avoid, such as nuts, may be quoted: it does harm where it is left out."""
    if language not in LANGUAGES:
        return False
    lexicon, kin, is_named = load_lexicon(language), _load_kin(language), False
    for text in _SENTENCE.split(quote):
        sentence = cut_sentence(_OPINION.sub("", text), lexicon, is_answer=False)
        for segment in sentence.segments:
            part = sentence.slice(segment.start, segment.end)
            is_told = _begins_with_person(segment, sentence, lexicon, kin)
            is_avoided = any(match.cue.kind == "avoid" for match in segment.matches)
            if is_told and not segment.has("attitude"):
                return True
            if (
                not is_avoided
                and (is_told or (is_named and not _has_speaker(segment, sentence, lexicon)))
                and find_subjects(part)
            ):
                return True
            is_named = is_named or any(
                _starts_with(sentence, place, kin) for place in range(segment.start, segment.end)
            )
    return False


def _begins_with_person(
    segment: Segment, sentence: Sentence, lexicon: Lexicon, kin: frozenset[tuple[str, ...]]
) -> bool:
    """Whether it says something of a relative or a friend: "my wife works", and not "my wife" alone."""
    start = segment.start
    while start < segment.end and sentence.tokens[start].key in lexicon.hollow | lexicon.selves:
        start += 1
    size = _starts_with(sentence, start, kin)
    if not size or (segment.has("self") and lexicon.language not in ("zh", "ja")):
        return False
    is_marked = start > segment.start or lexicon.language in _UNMARKED
    return is_marked and any(token.key[0].isalnum() for token in sentence.tokens[start + size : segment.end])


def _has_speaker(segment: Segment, sentence: Sentence, lexicon: Lexicon) -> bool:
    return any(token.key in lexicon.selves for token in sentence.tokens[segment.start : segment.end])


def _starts_with(sentence: Sentence, start: int, kin: frozenset[tuple[str, ...]]) -> int:
    """How many tokens name a person there."""
    keys = [token.key for token in sentence.tokens[start : start + 4]]
    return max((size for size in range(1, len(keys) + 1) if tuple(keys[:size]) in kin), default=0)


@cache
def _load_kin(language: str) -> frozenset[tuple[str, ...]]:
    """Words for relatives and friends, as tokens."""
    lexicon = load_lexicon(language)
    listed = load_data(language)["sets"]["kin"].split(",")
    return frozenset(tuple(token.key for token in lexicon.tokenize(word.strip())) for word in listed)
