"""The words and cues of one language, read from `lexicons/<language>.toml`.

Phrases are separated by commas. In a phrase `_` is a gap that holds the target, `word*` any word that begins so, and
`{name}` any of the phrases of that set.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

from services.statements.cues import COMMAS, GAP, Cue, CueTrie, Match
from services.statements.normalize import MARKS, UNSPACED, WORD, fold_cue, strip_accents

FOLDER: Final = Path(__file__).with_name("lexicons")
LANGUAGES: Final = ("en", "de", "fr", "es", "pt", "it", "nl", "zh", "ja", "ar", "hi", "ru")
ACCENTED: Final = frozenset(("fr", "es", "pt", "it", "de", "nl"))
"""Languages that people also type without their accents."""
HOLLOW: Final = frozenset(
    ("filler", "self", "pronoun", "finite", "not", "no", "not_past", "cannot", "question", "now", "request", "habit")
) | {
    "nor",
    "because",
    "relative",
    "contrast",
    "and",
    "than",
    "past",
    "too",
    "focus",
    "hollow",
    "preposition",
    "possessive",
}
"""Roles of words that name nothing."""
IDIOM: Final = 0.3
"""How much a word of an idiom tells of its language, against 1 for a word that stands alone."""
_SET = re.compile(r"\{(\w+)\}")
_NUMBER = r"\d+(?:[.,:]\d+)*"
_WORDS = {
    "clitic": rf"[a-z]+?(?=n['’]t\b)|n['’]t\b|['’](?:m|s|d|ve|re|ll)\b|{WORD}",
    "elision": rf"{WORD}['’](?=[^\W_])|{WORD}",
    "unspaced": rf"[{UNSPACED}][{MARKS}]*|[^\W_{UNSPACED}]+",
    "": WORD,
}
"""Words of a language by its manner of writing: I|'m, j'|aime."""
_WORD = re.compile(rf"[{UNSPACED}]|{WORD}")


class Token(NamedTuple):
    key: str
    start: int
    end: int


class Lexicon:
    """The cues of one language."""

    def __init__(self, language: str, data: Mapping[str, Any]) -> None:
        grammar = data["grammar"]
        is_unspaced = grammar.get("words") == "unspaced"
        self.language = language
        self.is_unspaced = is_unspaced
        self.negation: str = grammar["negation"]
        """On which side of an attitude its negation stands: before, after, both."""
        self.requires_subject: bool = grammar.get("requires_subject", False)
        """Whether what stands before a verb is its subject."""
        self.drops_subject: bool = grammar.get("drops_subject", False)
        """Whether sentences without a subject speak of the person."""
        self._prefixes: tuple[str, ...] = ()
        self._variants = str.maketrans({pair[0]: pair[1] for pair in grammar.get("variants", "").split()})
        self._pattern = re.compile(rf"{_NUMBER}|{_WORDS[grammar.get('words', '')]}|\S", re.IGNORECASE)
        self._aliases: dict[str, tuple[str, ...]] = {}
        self._word_keys: dict[str, tuple[str, ...]] = {}
        self._sets = {name: _split(listed) for name, listed in data.get("sets", {}).items()}
        cues = [*self._attitudes(data), *self._styles(data), *self._words(data)]
        single: dict[str, set[str]] = {}
        for cue in cues:
            if len(cue.keys) == 1:
                single.setdefault(cue.role, set()).add(cue.keys[0])
        self.selves = frozenset(single.get("self", set()) | single.get("possessive", set()))
        self.prepositions = frozenset(single.get("preposition", ()))
        roles = HOLLOW - {"finite"} if is_unspaced else HOLLOW
        self.hollow = frozenset[str]().union(*(single.get(role, ()) for role in roles))
        self.interrogatives = frozenset(map(fold_cue, _split(data["words"].get("interrogative", ""))))
        """Words that begin a question where it ends with its mark."""
        negators = single.get("not", set()) | single.get("no", set())
        self.negators = frozenset(negators)
        skipped = single["filler"] | self.prepositions | (self.selves if grammar.get("inverts") else set())
        if not is_unspaced:  # a character of a negation may be a part of any word
            skipped |= negators
        ironic, plain = [cue for cue in cues if cue.role == "sarcasm"], [cue for cue in cues if cue.role != "sarcasm"]
        self.cues = cues
        self._trie = CueTrie(self._order(plain), frozenset(skipped), self.negators)
        self._ironic = CueTrie(self._order(ironic), COMMAS | skipped, frozenset())
        self._aliases = {name: self._keys(value) for name, value in data.get("aliases", {}).items()}
        self._prefixes = tuple(map(fold_cue, grammar.get("prefixes", ())))

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
            elif len(key) > 2 and self._prefixes and key.startswith(self._prefixes) and self._trie.starts(key[1:]):
                tokens += [Token(key[0], start, start + 1), Token(key[1:], start + 1, end)]
            else:
                tokens.append(Token(key, start, end))
        return tokens

    def find(self, keys: list[str]) -> list[Match]:
        return self._trie.find(keys)

    def is_ironic(self, keys: list[str]) -> bool:
        """Whether a sentence means the opposite: "oh great, another romcom"."""
        return bool(self._ironic.find(keys))

    def _order(self, cues: list[Cue]) -> Iterator[Cue]:
        """The cues, those that stand at an end alone and those that tell more first; then as typed without accents."""
        cues.sort(key=lambda cue: (cue.where != "end", {"filler": 1, "preposition": 1, "hollow": 2}.get(cue.role, 0)))
        yield from cues
        if self.language in ACCENTED:
            for cue in cues:
                if not all(map(str.isascii, cue.keys)):
                    yield cue._replace(keys=tuple(map(strip_accents, cue.keys)))

    def _attitudes(self, data: Mapping[str, Any]) -> Iterator[Cue]:
        for group in data["attitude"]:
            fields = {name: value for name, value in group.items() if name != "phrases"}
            for phrase in _split(group["phrases"]):
                place = {"side": "gap" if GAP in phrase.split() else "after"} | fields
                yield from (Cue("attitude", keys, **place) for keys in self._expand(phrase))

    def _styles(self, data: Mapping[str, Any]) -> Iterator[Cue]:
        for role, features in data.get("style", {}).items():
            for feature, poles in features.items():
                for sign, pole in ((-1.0, "less"), (1.0, "more")):
                    for phrase in _split(poles.get(pole, "")):
                        yield Cue(role, self._keys(phrase), polarity=sign, feature=feature)

    def _words(self, data: Mapping[str, Any]) -> Iterator[Cue]:
        for role, phrases in data["words"].items():
            if role != "interrogative":
                for phrase in _split(phrases):
                    yield from (Cue(role, keys) for keys in self._expand(phrase))

    def _expand(self, phrase: str) -> Iterator[tuple[str, ...]]:
        if "{" not in phrase:
            yield self._keys(phrase)
            return
        names = _SET.findall(phrase)
        for values in product(*(self._sets[name] for name in names)):
            filled = phrase
            for name, value in zip(names, values, strict=True):
                filled = filled.replace(f"{{{name}}}", value, 1)
            yield self._keys(filled)

    def _keys(self, phrase: str) -> tuple[str, ...]:
        keys: list[str] = []
        for part in phrase.split():
            if part not in self._word_keys:
                self._word_keys[part] = self._keys_of_word(part)
            keys += self._word_keys[part]
        return tuple(keys)

    def _keys_of_word(self, part: str) -> tuple[str, ...]:
        if part == GAP:
            return (GAP,)
        if part[-1] == "'":  # an elision, before any word: d'
            return tuple(token.key for token in self.tokenize(f"{part}x"))[:-1]
        keys = [token.key for token in self.tokenize(part.rstrip("*"))]
        if part[-1] == "*":
            keys[-1] += "*"
        return tuple(keys)


def _split(listed: str) -> list[str]:
    return [phrase for part in listed.split(",") if (phrase := part.strip())]


@lru_cache(maxsize=len(LANGUAGES))
def load_data(language: str) -> Mapping[str, Any]:
    return tomllib.loads((FOLDER / f"{language}.toml").read_text(encoding="utf-8"))


@lru_cache(maxsize=len(LANGUAGES))
def load_lexicon(language: str) -> Lexicon:
    return Lexicon(language, load_data(language))


@lru_cache(maxsize=len(LANGUAGES))
def load_vocabulary(language: str) -> Mapping[str, float]:
    """The words of a lexicon that tell its language, and how much: those that stand in an idiom alone tell less, as it
    may hold words that other languages have too."""
    data = load_data(language)
    roles = [phrases for role, phrases in data["words"].items() if role != "content"]
    phrases = [phrase for group in data["attitude"] for phrase in _split(group["phrases"])]
    roles.append(data["grammar"].get("frequent", ""))
    plain = _words_of([*roles, *(phrase for phrase in phrases if " " not in phrase)])
    return dict.fromkeys(_words_of(phrases), IDIOM) | dict.fromkeys(plain, 1.0)


def _words_of(texts: list[str]) -> list[str]:
    return _WORD.findall(fold_cue(" ".join(texts)))
