"""What a word of a statement covers: "no seafood" speaks of prawns, "vegan" of cheese, "vegan leather" of no leather.

kinds.toml lists kinds and diets by language. Words are matched by their roots; of languages that write words together
also by an end of a word ("Rindfleisch"), and of those that set no words apart wherever they stand.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from services.profile.style_features import words
from services.profile.word_forms import root

_DATA: Final = tomllib.loads(Path(__file__).with_name("kinds.toml").read_text(encoding="utf-8"))
_COMPOUNDING: Final = frozenset(("de", "nl"))
_MIN_PART = 4
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
Phrase = tuple[str, ...]


class Mentions(NamedTuple):
    """An item's words, and by their roots what they mention: 1, or -1 for what it goes without."""

    tokens: list[str]
    roots: Mapping[str, int]


class Words(NamedTuple):
    """Words of one meaning, by how they are found."""

    roots: frozenset[str]
    starts: frozenset[str]
    """First roots of the phrases."""
    phrases: frozenset[Phrase]
    """Roots that stand in one text."""
    parts: frozenset[str]
    """Ends of compounds."""
    strings: frozenset[str]
    """Of languages that set no words apart."""

    def sign_in(self, item: Mentions) -> int:
        """1 where the item mentions one of them, -1 where it says that it goes without, else 0."""
        roots, signs = item.roots, list[int]()
        if not self.roots.isdisjoint(roots):
            signs = [sign for key, sign in roots.items() if key in self.roots]
        if not self.starts.isdisjoint(roots) and any(all(map(roots.__contains__, phrase)) for phrase in self.phrases):
            signs.append(1)
        if self.parts and any(map(self._ends, item.tokens)):
            signs.append(1)
        if self.strings and any(map("".join(item.tokens).__contains__, self.strings)):
            signs.append(1)
        return min(signs, default=0)

    def _ends(self, token: str) -> bool:
        sizes = range(_MIN_PART, len(token) - 2)
        return any(token[:size] in self.parts or token[-size:] in self.parts for size in sizes)


_NONE = Words(frozenset(), frozenset(), frozenset(), frozenset(), frozenset())


class Kind(NamedTuple):
    members: Words
    labels: Words
    """Names of diets that go without it."""
    is_diet: bool
    """Whether a diet was named, which goes without the members."""

    def sign_in(self, item: Mentions) -> int:
        """1 where the item is of the kind, -1 where it is not though its words say so; the other way for a diet."""
        sign = -1 if self.labels.sign_in(item) else self.members.sign_in(item)
        return -sign if self.is_diet else sign


@lru_cache(maxsize=4_096)
def find_kind(target: str, language: str) -> Kind | None:
    """The kinds of things that a target names, or that the diet it names goes without; None for any other target."""
    tokens = words(target)
    roots = {root(part): 1 for token in tokens for part in (token, *token.split("-"))}
    text = Mentions(tokens, roots)
    diets = _named("diets", text, language)
    kinds = _avoided(diets) if diets else frozenset(_parts(_named("kinds", text, language)))
    if not kinds:
        return None
    labels = [diet for diet in _DATA["diets"] if kinds <= _avoided([diet])]
    members, goes_without = (
        _join(_words(section, name, language) for name in names)
        for section, names in (("kinds", kinds), ("diets", labels))
    )
    return Kind(members, goes_without, bool(diets))


def _named(section: str, text: Mentions, language: str) -> set[str]:
    return {name for name in _DATA[section] if _words(section, name, language, names_alone=True).sign_in(text)}


def _avoided(diets: Iterable[str]) -> frozenset[str]:
    return frozenset(_parts(kind for diet in diets for kind in _DATA["diets"][diet]["avoids"]))


def _parts(kinds: Iterable[str]) -> Iterator[str]:
    for kind in kinds:
        yield kind
        yield from _parts(_DATA["kinds"][kind].get("parts", ()))


@lru_cache(maxsize=4_096)
def _words(section: str, name: str, language: str, *, names_alone: bool = False) -> Words:
    entry: Mapping[str, Any] = _DATA[section][name]
    listed = []
    for code in dict.fromkeys((language, "en")):
        names, _, members = entry.get(code, "").partition("|")
        listed.append(_read(f"{names} {'' if names_alone else members}".split(), code))
    return _join(listed)


def _read(listed: Iterable[str], language: str) -> Words:
    roots, phrases, parts, strings = set[str](), set[Phrase](), set[str](), set[str]()
    for entry in listed:
        tokens = words(entry.replace("_", " "))
        if _UNSPACED.search(entry):
            strings.add("".join(tokens))
        elif len(tokens) == 1 and "-" not in tokens[0]:
            roots.add(root(tokens[0]))
            if language in _COMPOUNDING and len(tokens[0]) >= _MIN_PART:
                parts.add(tokens[0])
        else:
            phrases.add(tuple(root(part) for token in tokens for part in token.split("-")))
    starts = frozenset(phrase[0] for phrase in phrases)
    return Words(frozenset(roots), starts, frozenset(phrases), frozenset(parts), frozenset(strings))


def _join(listed: Iterable[Words]) -> Words:
    columns = zip(_NONE, *listed, strict=True)
    return Words(*(frozenset().union(*column) for column in columns))
