"""Tells which sensitive subjects a text names: special categories of data, age, sex, and a tenant's own topics.

    find_subjects("The user is Catholic.")  # {"religion/christian"}
    find_subjects("The user likes party games.")  # set()

Words stand in sensitive.toml in twelve languages. They are compared whole, as `services.statements.normalize.fold`
writes them; those of Chinese and Japanese, which set no spaces, wherever they stand. Pure functions.
"""

import re
import tomllib
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, NamedTuple

from alignx.schemas.tenants import PrivacySettings
from services.profile.word_forms import root
from services.statements.normalize import UNSPACED, WORD, fold, fold_cue

_EXCEPT: Final = "except"
_GENERAL: Final = "general"
_WORD: Final = re.compile(rf"#s?(?!\w)|{WORD}")
_NUMBER: Final = re.compile(r"[0-9]+")
_TOPIC_WORD: Final = re.compile(rf"\d+(?:\.\d+|,\d{{3}}(?!\d))*(?![^\W_])|{WORD}")
"""A word of a tenant's topic; a number is one, with its thousands and decimals."""
_UNSPACED: Final = re.compile(rf"[{UNSPACED}]")
_BESIDE_NUMBER: Final = re.compile(rf"(?<=[{UNSPACED}])(?=\d)|(?<=\d)(?=[{UNSPACED}])")
_ARTICLE: Final = re.compile(r"\A[وفبك]?(?:ال|لل)(?=\w{3})")
"""Arabic writes the article, and what may stand before it, as one with its word."""


class Policy(NamedTuple):
    """What is kept out of what is inferred of a user."""

    sensitive: bool = True
    """Whether the subjects of sensitive.toml are."""
    denied: frozenset[str] = frozenset()
    """Further topics, each a word or a phrase."""


DEFAULT: Final = Policy()


def read_policy(settings: PrivacySettings) -> Policy:
    """The policy of a tenant."""
    return Policy(settings.hide_sensitive, frozenset(settings.denied_topics))


@lru_cache(maxsize=8_192)
def find_subjects(text: str, policy: Policy = DEFAULT) -> frozenset[str]:
    """The denied subjects that a text names, such as `religion/christian`; a tenant's topic as it is written."""
    plain = fold(text)
    folded = _NUMBER.sub("#", plain)
    tokens = [fold_cue(token) for token in _WORD.findall(folded)]
    subjects = set[str]()
    if policy.sensitive:
        lexicon = _load()
        subjects |= lexicon.find_words(tokens)
        if _UNSPACED.search(folded):
            subjects |= lexicon.find_unspaced(folded)
    if policy.denied:
        roots = _topic_roots(plain)
        subjects |= {topic for topic in policy.denied if _names_topic(fold(topic).strip(), roots, plain)}
    return frozenset(subjects)


def lacks(subjects: frozenset[str], stated: frozenset[str]) -> bool:
    """Whether some of the `subjects` are not among the `stated` ones. A whole category is where one of it is."""
    categories = {f"{name.partition('/')[0]}/{_GENERAL}" for name in stated if "/" in name}
    return not subjects <= stated | categories


def _names_topic(topic: str, roots: str, text: str) -> bool:
    if _UNSPACED.search(topic):
        return re.search(rf"(?<!\d){re.escape(topic)}(?!\d)", text) is not None
    named = _topic_roots(topic)
    return not named.isspace() and named in roots


def _topic_roots(text: str) -> str:
    """The roots of a text's words, a space around each."""
    spaced = _BESIDE_NUMBER.sub(" ", text)
    return f" {' '.join(root(fold_cue(word)) for word in _TOPIC_WORD.findall(spaced))} "


class _Phrase(NamedTuple):
    subject: str
    words: tuple[str, ...]


class _Lexicon:
    """The phrases by their first word, and those of unspaced scripts as one pattern."""

    def __init__(self, phrases: list[_Phrase]) -> None:
        self._by_start: dict[str, list[_Phrase]] = {}
        self._unspaced: dict[str, str] = {}
        for phrase in phrases:
            if _UNSPACED.search(phrase.words[0]):
                self._unspaced[phrase.words[0]] = phrase.subject
            else:
                self._by_start.setdefault(phrase.words[0], []).append(phrase)
        self._stem_sizes = sorted({len(start) - 1 for start in self._by_start if start.endswith("*")})
        longest_first = sorted(self._unspaced, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def find_words(self, tokens: list[str]) -> set[str]:
        found = list[tuple[str, range]]()
        for place in range(len(tokens)):
            for phrase in self._starting(tokens[place]):
                end = place + len(phrase.words)
                if len(phrase.words) == 1 or (
                    end <= len(tokens) and all(map(_is_word, phrase.words[1:], tokens[place + 1 : end]))
                ):
                    found.append((phrase.subject, range(place, end)))
        allowed = {place for subject, places in found if subject == _EXCEPT for place in places}
        return {subject for subject, places in found if not allowed.issuperset(places)}

    def find_unspaced(self, text: str) -> set[str]:
        return {self._unspaced[match[0]] for match in self._pattern.finditer(text)} - {_EXCEPT}

    def _starting(self, token: str) -> Iterator[_Phrase]:
        for form in {token, _ARTICLE.sub("", token)}:
            yield from self._by_start.get(form, ())
            for size in self._stem_sizes:
                if size > len(form):
                    break
                yield from self._by_start.get(f"{form[:size]}*", ())


def _is_word(pattern: str, token: str) -> bool:
    stem = pattern.removesuffix("*")
    return token.startswith(stem) if stem != pattern else token == pattern or _ARTICLE.sub("", token) == pattern


@cache
def _load() -> _Lexicon:
    table = tomllib.loads(files("services.profile.stated").joinpath("sensitive.toml").read_text(encoding="utf-8"))
    return _Lexicon(
        [
            _Phrase(_EXCEPT if category == _EXCEPT else f"{category}/{subject}", tuple(_fold_words(phrase)))
            for category, subjects in table.items()
            for subject, listed in subjects.items()
            for phrase in listed.split(",")
        ]
    )


def _fold_words(phrase: str) -> list[str]:
    folded = fold(phrase.strip())
    return [folded] if _UNSPACED.search(folded) else list(map(fold_cue, folded.split()))
