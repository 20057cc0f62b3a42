"""The cues of one language, read from `lexicons/<language>.toml`, and where they stand in a sentence.

A cue is a phrase with a role. In a phrase `_` is a gap that holds the target, `word*` any word that begins so, and
`{name}` any of the phrases of that set. Fillers and negators may stand between a phrase's words. The longest phrase
that begins at a word counts.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from services.statements.normalize import LETTER, MARKS, UNSPACED, fold_cue, strip_accents

FOLDER: Final = Path(__file__).with_name("lexicons")
LANGUAGES: Final = ("en", "de", "fr", "es", "pt", "it", "nl", "zh", "ja", "ar", "hi", "ru")
GAP: Final = "_"
MAX_GAP: Final = 9
"""Words in a gap; twice as many characters where words are not set apart."""
_PREFIX: Final = 2
"""Letters by which prefixes are looked up."""
_SET = re.compile(r"\{(\w+)\}")
_BODY = rf"{LETTER}(?:{LETTER}|[{MARKS}])*"
_NUMBER = r"\d+(?:[.,:]\d+)*"
_SPACED = {
    "clitic": rf"{_BODY}?(?=n['’]t\b)|n['’]t\b|['’](?:m|s|d|ve|re|ll)\b|{_BODY}",
    "elision": rf"{_BODY}['’](?={LETTER})|{_BODY}",
    "": _BODY,
}
"""Words by how a language uses the apostrophe: I|'m, j'|aime."""


class Token(NamedTuple):
    key: str
    start: int
    end: int


class Cue(NamedTuple):
    """A phrase and its role. The fields from `kind` on belong to attitudes, `feature` to style."""

    role: str
    keys: tuple[str, ...]
    kind: str = ""
    polarity: float = 0.0
    side: Literal["after", "before", "inside"] = "after"
    where: Literal["any", "start", "subject", "own", "end"] = "any"
    """At the start or the end of a segment; right after who likes it: "I like" is a taste, "a man like him" none; in a
    segment that names the person: "I'm a cat lover"."""
    is_self: bool = False
    """The phrase tells by its form that the person speaks of themselves: "odio"."""
    versus: bool = False
    """What follows the phrase is what the gap is preferred to: "prefer _ to"."""
    past: bool = False
    """The phrase tells by its form that it is no longer so: "me gustaba"."""
    feature: str = ""


class Match(NamedTuple):
    cue: Cue
    start: int
    end: int
    gap: tuple[int, int] | None = None
    negated: bool = False


class Lexicon:
    """The cues of one language, by their first word."""

    def __init__(self, language: str, data: Mapping[str, Any]) -> None:
        grammar = data.get("grammar", {})
        self.language = language
        self.negation: str = grammar.get("negation", "before")
        self.drops_subject: bool = grammar.get("drops_subject", False)
        self._prefixes: tuple[str, ...] = tuple(map(fold_cue, grammar.get("prefixes", ())))
        self._variants = str.maketrans({pair[0]: pair[1] for pair in grammar.get("variants", "").split()})
        self._aliases: dict[str, tuple[str, ...]] = {}
        self._pattern = re.compile(
            rf"{_NUMBER}|[{UNSPACED}][{MARKS}]*|{_SPACED[grammar.get('apostrophe', '')]}|[^\s{MARKS}]"
        )
        self._by_first: dict[str, list[Cue]] = {}
        self._by_prefix: dict[str, list[Cue]] = {}
        self._skipped: frozenset[str] = frozenset()
        self.prepositions: frozenset[str] = frozenset()
        self.negators: frozenset[str] = frozenset()
        self.selves: frozenset[str] = frozenset()
        self.hollow: frozenset[str] = frozenset()
        """Words that name nothing."""
        self.interrogatives = frozenset(map(fold_cue, _split(data.get("words", {}).get("interrogative", ""))))
        """Words that begin a question where it ends with its mark."""
        self._index(data)
        self._aliases = {name: self._keys(value) for name, value in data.get("aliases", {}).items()}
        self.vocabulary = frozenset(
            key
            for cues in self._by_first.values()
            for cue in cues
            for key in cue.keys
            if key != GAP and key[-1] != "*" and (key[0].isalpha() or key[0] == "'")
        ) | frozenset(self._aliases)

    def tokenize(self, text: str) -> list[Token]:
        """Words, single characters of unspaced scripts, and marks, with their places in `text`."""
        tokens: list[Token] = []
        for found in self._pattern.finditer(text):
            start, end = found.span()
            key = fold_cue(found[0]).translate(self._variants)
            if not key:  # an invisible character
                continue
            if key in self._aliases:
                tokens += [Token(part, start, end) for part in self._aliases[key]]
            elif len(key) > 2 and self._prefixes and key.startswith(self._prefixes) and self._is_known(key[1:]):
                tokens += [Token(key[0], start, start + 1), Token(key[1:], start + 1, end)]
            else:
                tokens.append(Token(key, start, end))
        return tokens

    def _is_known(self, key: str) -> bool:
        return key in self._by_first or any(True for _ in self._prefix_cues(key))

    def _prefix_cues(self, key: str) -> Iterator[Cue]:
        return (cue for cue in self._by_prefix.get(key[:_PREFIX], ()) if key.startswith(cue.keys[0][:-1]))

    def find(self, keys: Sequence[str]) -> list[Match]:
        """The cues of a sentence in order; none overlaps another but for what stands in a gap."""
        matches, taken, position = [], set[int](), 0
        while position < len(keys):
            match = None if position in taken else self._longest(keys, position)
            if match is None:
                position += 1
                continue
            matches.append(match)
            if match.gap:
                taken.update(range(match.gap[1], match.end))
                position = match.gap[0]
            else:
                position = match.end
        return matches

    def _longest(self, keys: Sequence[str], position: int) -> Match | None:
        candidates = self._by_first.get(keys[position], [])
        if by_prefix := [*self._prefix_cues(keys[position])]:
            candidates = sorted([*candidates, *by_prefix], key=lambda cue: -len(cue.keys))
        for cue in candidates:
            match = self._match(cue, keys, position)
            if match and (cue.where != "end" or keys[match.end : match.end + 1] == [] or keys[match.end] in BOUNDARIES):
                return match
        return None

    def _match(self, cue: Cue, keys: Sequence[str], start: int) -> Match | None:
        place, gap, negated, in_gap = start + 1, None, False, False
        for key in cue.keys[1:]:
            if key == GAP:
                in_gap = True
                continue
            end = self._gap_end(key, keys, place) if in_gap else self._next(key, keys, place)
            if end is None:
                return None
            if in_gap:
                if cue.versus and self.hollow.issuperset(keys[place:end]):
                    return None
                gap, in_gap = (place, end), False
            else:
                negated = negated or not self.negators.isdisjoint(keys[place:end])
            place = end + 1
        return Match(cue, start, place, gap, negated)

    def _next(self, key: str, keys: Sequence[str], place: int) -> int | None:
        for end in range(place, len(keys)):
            if _is_same(key, keys[end]):
                return end
            if keys[end] not in self._skipped:
                break
        return None

    def _gap_end(self, key: str, keys: Sequence[str], place: int) -> int | None:
        most = MAX_GAP if keys[place : place + 1] and keys[place].isascii() else 2 * MAX_GAP
        for end in range(place, min(len(keys), place + most + 1)):
            if _is_same(key, keys[end]):
                return end if end > place else None
            if keys[end] in BOUNDARIES:
                return None
        return None

    def _index(self, data: Mapping[str, Any]) -> None:
        grammar = data.get("grammar", {})
        sets = {name: _split(listed) for name, listed in data.get("sets", {}).items()}
        cues = [*self._attitudes(data, sets), *self._styles(data), *self._words(data, sets)]
        cues.sort(key=lambda cue: (cue.where != "end", {"filler": 1, "hollow": 2}.get(cue.role, 0)))
        single: dict[str, set[str]] = {}
        for cue in cues:
            if len(cue.keys) == 1:
                single.setdefault(cue.role, set()).add(cue.keys[0])
        self.negators = frozenset(single.get("not", set()) | single.get("no", set()))
        self.selves = frozenset(single.get("self", ()))
        self.prepositions = frozenset(single.get("preposition", ()))
        self.hollow = frozenset().union(*(single.get(role, ()) for role in HOLLOW))
        self._skipped = self.negators.union(single.get("filler", ()), self.prepositions)
        if grammar.get("inverts"):
            self._skipped |= self.selves
        plain = [cue._replace(keys=tuple(map(strip_accents, cue.keys))) for cue in cues]
        for cue in [*cues, *plain] if self.language in ACCENTED else cues:
            first = cue.keys[0]
            index, key = (self._by_prefix, first[:_PREFIX]) if first[-1] == "*" else (self._by_first, first)
            if all(cue.keys != other.keys or other.where == "end" for other in index.setdefault(key, [])):
                index[key].append(cue)
        for index in (self._by_first, self._by_prefix):
            for listed in index.values():
                listed.sort(key=lambda cue: -len(cue.keys))

    def _attitudes(self, data: Mapping[str, Any], sets: Mapping[str, list[str]]) -> Iterator[Cue]:
        for group in data.get("attitude", ()):
            fields = {name: value for name, value in group.items() if name != "phrases"}
            for phrase in _split(group["phrases"]):
                yield from (Cue("attitude", keys, **fields) for keys in self._expand(phrase, sets))

    def _styles(self, data: Mapping[str, Any]) -> Iterator[Cue]:
        for role, features in data.get("style", {}).items():
            for feature, poles in features.items():
                for sign, pole in ((-1.0, "less"), (1.0, "more")):
                    for phrase in _split(poles.get(pole, "")):
                        yield Cue(role, self._keys(phrase), polarity=sign, feature=feature)

    def _words(self, data: Mapping[str, Any], sets: Mapping[str, list[str]]) -> Iterator[Cue]:
        for role, phrases in data.get("words", {}).items():
            if role == "interrogative":
                continue
            for phrase in _split(phrases):
                yield from (Cue(role, keys) for keys in self._expand(phrase, sets))

    def _expand(self, phrase: str, sets: Mapping[str, list[str]]) -> Iterator[tuple[str, ...]]:
        names = _SET.findall(phrase)
        for values in product(*(sets[name] for name in names)):
            filled = phrase
            for name, value in zip(names, values, strict=True):
                filled = filled.replace(f"{{{name}}}", value, 1)
            yield self._keys(filled)

    def _keys(self, phrase: str) -> tuple[str, ...]:
        keys: list[str] = []
        for part in phrase.split():
            if part == GAP:
                keys.append(GAP)
            elif part[-1] == "'":  # an elision, before any word: d'
                keys += [token.key for token in self.tokenize(f"{part}x")][:-1]
            else:
                keys += [token.key for token in self.tokenize(part.rstrip("*"))]
            if part[-1] == "*":
                keys[-1] += "*"
        return tuple(keys)


ACCENTED: Final = frozenset(("fr", "es", "pt", "it", "de", "nl"))
"""Languages that people also type without their accents."""
HOLLOW: Final = frozenset(
    ("filler", "self", "pronoun", "finite", "not", "no", "not_past", "cannot", "question", "now", "request", "habit")
) | {"because", "relative", "contrast", "and", "than", "past", "too", "hollow", "preposition"}
BOUNDARIES: Final = frozenset('.!?;:,()[]/—–…。！？；：，、؛،؟।\n"“”„«»「」『』')
"""Marks that no gap holds."""


def _split(listed: str) -> list[str]:
    return [phrase for part in listed.split(",") if (phrase := part.strip())]


def _is_same(pattern: str, key: str) -> bool:
    return key.startswith(pattern[:-1]) if pattern[-1] == "*" and pattern != "*" else key == pattern


@lru_cache(maxsize=len(LANGUAGES))
def load_lexicon(language: str) -> Lexicon:
    """Raises KeyError for a language without a lexicon."""
    if language not in LANGUAGES:
        raise KeyError(language)
    return Lexicon(language, tomllib.loads((FOLDER / f"{language}.toml").read_text(encoding="utf-8")))
