"""The words that checks of a reply need, from phrases/*.txt: regular expressions, and the languages they know.

A text of another language is nobody's to judge by its words: `identify_language` gives None, and the checks pass.
"""

import itertools
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from services.prompts.replies.degenerate import split_words

_MIN_FUNCTION_WORDS: Final = 0.2
"""Smallest share of a language's function words by which a text counts as written in it. Prose has .35 and more."""
_KANA, _HAN = re.compile(r"[\u3040-\u30ff]"), re.compile(r"[\u3400-\u9fff]")
_MIN_SCRIPT: Final = 0.3
_READ_CHARS: Final = 3_000
"""Characters that tell a language."""
_STEM: Final = 5
"""Letters by which two forms of a word are the same."""


NO_WORD: Final = re.compile(r"(?!)")


@dataclass(frozen=True)
class Language:
    function: frozenset[str] = frozenset()
    person: re.Pattern[str] = NO_WORD
    """`NO_WORD` for a language that is listed only so that it is not taken for another."""
    preference: re.Pattern[str] = NO_WORD
    address: re.Pattern[str] = NO_WORD
    definition: re.Pattern[str] = NO_WORD
    """Matches the start of a sentence that says what a thing is or has."""
    empty: re.Pattern[str] = NO_WORD


def to_plain(text: str) -> str:
    """`text` as the expressions of phrases/*.txt read it: in lower case, with straight apostrophes, without joiners
    and full-width letters, and without the marks of Markdown at its start."""
    text = unicodedata.normalize("NFKC", text).replace("\u200c", "").replace("\u200d", "")
    return re.sub(r"\A(?:[*_#>\s•+¡¿-]|\d{1,3}[.)](?=\s))+", "", text.lower().replace("’", "'"))


@cache
def load_phrases(name: str) -> re.Pattern[str]:
    """The regular expressions of phrases/<name>.txt, one a line, as alternatives."""
    return re.compile("|".join(f"(?:{line})" for line in _read_lines(name)))


@cache
def load_languages() -> dict[str, Language]:
    """The languages of phrases/languages.txt by their codes."""
    kinds: dict[str, dict[str, frozenset[str] | re.Pattern[str]]] = {}
    for line in _read_lines("languages"):
        head, _, words = line.partition(":")
        code, kind = head.split()
        kinds.setdefault(code, {})[kind] = (
            frozenset(words.split()) if kind == "function" else _to_pattern(code, kind, words)
        )
    return {code: Language(**words) for code, words in kinds.items()}  # type: ignore[arg-type]


def _read_lines(name: str) -> list[str]:
    lines = (files("services.prompts.replies") / "phrases" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _to_pattern(code: str, kind: str, words: str) -> re.Pattern[str]:
    if kind == "definition":
        return re.compile(words.strip())
    if code in _UNSPACED:
        return re.compile("|".join(map(re.escape, words.split())))
    return re.compile(r"\b(?:" + "|".join(re.escape(word).replace(r"\*", r"\w*") for word in words.split()) + r")\b")


_UNSPACED: Final = ("zh", "ja")


def identify_language(text: str) -> str | None:
    """The language of `text` among those of languages.txt, by its script or its function words; None for another."""
    letters = max(1, sum(map(str.isalpha, text)))
    if len(_HAN.findall(text)) + (kana := len(_KANA.findall(text))) > _MIN_SCRIPT * letters:
        return "ja" if kana > 0.05 * letters else "zh"
    words = split_words(text[:_READ_CHARS].lower())
    frequency, languages = Counter(words), load_languages().items()
    counts = {code: sum(frequency[word] for word in language.function) for code, language in languages}
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] >= max(2, _MIN_FUNCTION_WORDS * len(words)) else None


def content_stems(text: str, code: str) -> set[str]:
    """The words of `text` that say something, each by its first letters; of a script without spaces, pairs."""
    language, plain = load_languages()[code], text.lower()
    if code in _UNSPACED:
        chars = re.sub(r"[^\w]", " ", language.empty.sub(" ", plain))
        return {pair for part in chars.split() for pair in map("".join, itertools.pairwise(part))} or set(chars.split())
    words = split_words(language.empty.sub(" ", plain))
    return {word[:_STEM] for word in words if word not in language.function}
