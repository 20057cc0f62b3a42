"""The words that checks of a reply need, from phrases/*.txt, and a text as these checks read it.

A text of another language is nobody's to judge by its words: `identify_language` gives None, and the checks pass.
Phrases stand in sections, `[es pt]`; a long text is searched for those of the languages that it holds words of.
"""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Final

from services.prompts.replies.degenerate import count_words, split_words
from services.prompts.sentences import split_sentences

_MIN_FUNCTION_WORDS: Final = 0.15
"""Smallest share of a language's function words by which a text counts as written in it. Prose has .35 and more."""
_SHORT_WORDS: Final = 14
"""A text of so few words may hold a single function word."""
_SCRIPTS: Final = {
    "ja": re.compile(r"[\u3040-\u30ff]"),
    "zh": re.compile(r"[\u3400-\u9fff]"),
    "ko": re.compile(r"[\uac00-\ud7a3]"),
    "ar": re.compile(r"[\u0620-\u064a]"),
    "hi": re.compile(r"[\u0904-\u0939]"),
    "ru": re.compile(r"[\u0400-\u04ff]"),
}
_SUBSTRING: Final = ("zh", "ja", "ko", "ar", "hi")
"""Languages whose words carry others, or marks that are no letters: a word counts wherever it stands."""
_MIN_SCRIPT: Final = 0.3
_RUSSIAN, _OTHER_CYRILLIC = re.compile(r"[ыэё]"), re.compile(r"[ғқңөұүһәіїєґўђљњћџјѓќѕ]")
_READ_CHARS: Final = 3_000
"""Characters that tell a language."""
_STEM: Final = 5
"""Letters by which two forms of a word are the same."""
_NEVER: Final = re.compile(r"(?!)")


@dataclass(frozen=True)
class Words:
    """Words, and beginnings of words."""

    exact: frozenset[str] = frozenset()
    stems: tuple[str, ...] = ()
    anywhere: re.Pattern[str] = _NEVER

    def select(self, words: set[str]) -> set[str]:
        return {word for word in words if word in self.exact or word.startswith(self.stems)}


@dataclass(frozen=True)
class Language:
    function: Words = Words()
    person: Words = Words()
    attitude: Words = Words()
    empty: Words = Words()
    like: re.Pattern[str] = _NEVER
    dislike: re.Pattern[str] = _NEVER
    limit: re.Pattern[str] = _NEVER
    start: re.Pattern[str] = _NEVER
    claim: re.Pattern[str] = _NEVER
    speaker: re.Pattern[str] = _NEVER
    address: re.Pattern[str] = _NEVER
    definition: re.Pattern[str] = _NEVER

    @property
    def is_known(self) -> bool:
        """Whether it is listed for more than not to be taken for another."""
        return bool(self.person.exact) or self.person.anywhere is not _NEVER


_QUOTED = re.compile(
    r"\"[^\"\n]{0,300}\"|“[^”\n]{0,300}”|„[^“”\n]{0,300}[“”]|«[^»\n]{0,300}»|「[^」\n]{0,300}」|`[^`\n]{0,300}`|(?<!\w)'[^'\n]{2,120}'(?!\w)"
)


class Reading:
    """A text in lower case, without what it quotes, by its sentences of two words and more."""

    def __init__(self, text: str) -> None:
        self.text = text
        unquoted = _QUOTED.sub(" ", text) if _QUOTES & set(text) else text
        parts = [to_plain(part).strip().replace("\n", " ") for part in split_sentences(unquoted)]
        words = [(part, split_words(part)) for part in parts]
        sizes = [(part, listed, count_words(listed)) for part, listed in words]
        self.sentences = [part for part, _, size in sizes if size > 1]
        self.words = [set(listed) for _, listed, size in sizes if size > 1]
        self.sizes = [size for _, _, size in sizes if size > 1]
        """Words of each sentence; of scripts without spaces two characters count as one."""
        self.lines = "\n".join(self.sentences)

    @cached_property
    def code(self) -> str | None:
        return identify_language(self.text)

    @cached_property
    def language(self) -> Language | None:
        """None where the checks do not know it."""
        language = load_languages().get(self.code or "")
        return language if language and language.is_known else None

    @cached_property
    def foreign(self) -> list[int]:
        """Numbers of the sentences that may be of another language than the text."""
        if self.language is None or sum(self.sizes) <= _SHORT_WORDS:  # so few words do not tell a language for certain
            return list(range(len(self.sentences)))
        own, others = _function_words(self.code or "")
        other_script = _LATIN_WORDS if self.code in _SCRIPTS else _OTHER_SCRIPT
        return [
            number
            for number, (sentence, words) in enumerate(zip(self.sentences, self.words, strict=True))
            if other_script.search(sentence)
            or (self.code not in _SUBSTRING and (own.isdisjoint(words) or len(words & others) > 1))
        ]

    def find_phrases(self, name: str) -> set[int]:
        """Numbers of the sentences that hold one of phrases/<name>.txt: of the text's language, and in sentences that
        may be of another, of every language."""
        foreign, numbers = "\n".join(self.sentences[number] for number in self.foreign), set[int]()
        for codes, pattern in load_phrases(name):
            if self.language and self.code in codes:
                numbers.update(self.lines.count("\n", 0, match.start()) for match in pattern.finditer(self.lines))
            elif foreign:
                found = (foreign.count("\n", 0, match.start()) for match in pattern.finditer(foreign))
                numbers.update(map(self.foreign.__getitem__, found))
        return numbers

    def drop_phrases(self, name: str) -> "Reading":
        """The same text without the phrases of phrases/<name>.txt, of whatever language."""
        rest = copy(self)
        for _, pattern in load_phrases(name):
            rest.sentences = [pattern.sub(" ", sentence) for sentence in rest.sentences]
        rest.lines = "\n".join(rest.sentences)
        return rest

    def find_words(self, words: Words) -> set[int]:
        """Numbers of the sentences that hold one of the words."""
        if words.anywhere is not _NEVER:
            return {number for number, sentence in enumerate(self.sentences) if words.anywhere.search(sentence)}
        selected = words.select(set[str]().union(*self.words))
        return {number for number, sentence in enumerate(self.words) if not sentence.isdisjoint(selected)}


_LATIN_WORDS, _OTHER_SCRIPT = re.compile(r"[a-z]{2,}\W+[a-z]{2,}"), re.compile(r"[\u0400-\u1cff\u3040-\ud7a3]")
_QUOTES: Final = frozenset("\"“„«「`'")
_LEADING_MARKS = re.compile(r"\A(?:[*_#>\s•+¡¿|-]|\d{1,3}[.)](?=\s))+")


def to_plain(text: str) -> str:
    """`text` as the expressions of phrases/*.txt read it: in lower case, with straight apostrophes, without joiners
    and full-width letters, and without the marks of Markdown at its start."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("\u200c", "").replace("\u200d", "").replace("’", "'")
    return _LEADING_MARKS.sub("", text.lower())


@cache
def _function_words(code: str) -> tuple[frozenset[str], frozenset[str]]:
    """Those of a language, and those of others that it has not."""
    languages = load_languages()
    own = languages[code].function.exact
    return own, frozenset().union(*(language.function.exact for language in languages.values())) - own


@cache
def load_phrases(name: str) -> list[tuple[frozenset[str], re.Pattern[str]]]:
    """(languages, regular expression) a section of phrases/<name>.txt. Lines that begin with \\b are tried together,
    at the starts of words alone, which takes a third of the time."""
    sections = dict[frozenset[str], list[str]]()
    for line in _read_lines(name):
        if re.fullmatch(r"\[[a-z ]+\]", line):
            codes = frozenset(line[1:-1].split())
        else:
            sections.setdefault(codes, []).append(line)
    phrases = list[tuple[frozenset[str], re.Pattern[str]]]()
    for codes, lines in sections.items():
        words = "|".join(line[2:] for line in lines if line.startswith(r"\b"))
        rest = [line for line in lines if not line.startswith(r"\b")]
        expressions = [rf"\b(?:{words})"] * bool(words) + rest
        phrases += [(codes, re.compile(expression, re.MULTILINE)) for expression in expressions]
    return phrases


def starts_with_phrase(name: str, text: str, start: int = 0) -> bool:
    """Whether a phrase of phrases/<name>.txt stands at `start` of a plain text, of whatever language."""
    return any(pattern.match(text, start) for _, pattern in load_phrases(name))


@cache
def load_languages() -> dict[str, Language]:
    """The languages of phrases/languages.txt by their codes."""
    kinds: dict[str, dict[str, Words | re.Pattern[str]]] = {}
    for line in _read_lines("languages"):
        head, _, words = line.partition(": ")
        code, kind = head.split()
        is_list = kind in ("function", "person", "attitude", "empty")
        kinds.setdefault(code, {})[kind] = _to_words(code, words.split()) if is_list else re.compile(words)
    return {code: Language(**words) for code, words in kinds.items()}  # type: ignore[arg-type]


def _to_words(code: str, words: list[str]) -> Words:
    return Words(
        frozenset(word for word in words if not word.endswith("*")),
        tuple(word[:-1] for word in words if word.endswith("*")),
        re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True)))) if code in _SUBSTRING else _NEVER,
    )


def _read_lines(name: str) -> Iterator[str]:
    text = (files("services.prompts.replies") / "phrases" / f"{name}.txt").read_text(encoding="utf-8")
    return (line for line in text.splitlines() if line and not line.startswith("#"))


def identify_language(text: str) -> str | None:
    """The language of `text` among those of languages.txt, by its script or its function words; None for another."""
    text = text[:_READ_CHARS]
    letters = max(1, sum(map(str.isalpha, text)))
    scripts = {} if text.isascii() else {code: len(of.findall(text)) / letters for code, of in _SCRIPTS.items()}
    script = max(scripts, key=scripts.__getitem__, default="en")
    if script in ("zh", "ja", "ko") and scripts[script] > _MIN_SCRIPT / 2:
        return script if script == "ko" else "ja" if scripts["ja"] > 0.05 else "zh"
    if script == "ru" and _RUSSIAN.search(text) and not _OTHER_CYRILLIC.search(text):
        return "ru"
    is_marked = script in ("ar", "hi") and scripts[script] > _MIN_SCRIPT
    words = text.split() if is_marked else split_words(text.lower())  # marks of vowels part words otherwise
    frequency = Counter(words)
    counts = {
        code: sum(frequency[word] for word in language.function.exact) for code, language in load_languages().items()
    }
    best, second = sorted(counts, key=counts.__getitem__, reverse=True)[:2]
    least = max(1 + (len(words) > _SHORT_WORDS), _MIN_FUNCTION_WORDS * len(words))
    return best if counts[best] >= least and counts[best] > counts[second] else None


def content_stems(text: str, code: str) -> set[str]:
    """The words of `text` that say something, each by its first letters; of a script without spaces, pairs."""
    language, plain = load_languages()[code], text.lower()
    if code in _SUBSTRING:
        chars = re.sub(r"[^\w]", " ", language.empty.anywhere.sub(" ", plain))
        return {pair for part in chars.split() for pair in map("".join, itertools.pairwise(part))} or set(chars.split())
    words = set(split_words(plain))
    return {word[:_STEM] for word in words - language.empty.select(words) - language.function.exact}
