"""In which language a text is written, by its script and then by the words of the lexicons.

A text in another language gets "": its clauses are quoted, and nothing is claimed of them. `lexicons/unread.toml`
lists frequent words of languages that share a script with a known one, so that they are told apart.
"""

import re
import tomllib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from services.statements.lexicon import FOLDER, load_vocabulary
from services.statements.normalize import WORD, fold_cue

_KANA = re.compile("[\u3040-\u30ff\uff66-\uff9f]")
_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
_SCRIPTS: Final[tuple[tuple[str, re.Pattern[str], tuple[str, ...]], ...]] = (
    ("cyrillic", re.compile("[\u0400-\u052f]"), ("ru",)),
    ("arabic", re.compile("[\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff]"), ("ar",)),
    ("devanagari", re.compile("[\u0900-\u097f]"), ("hi",)),
    ("latin", re.compile("[a-z\u00c0-\u024f\u1e00-\u1eff]", re.IGNORECASE), ("en", "de", "fr", "es", "pt", "it", "nl")),
)
_WORD = re.compile(WORD)
MAX_CHARS: Final = 400
"""Characters by which the language is recognized."""


def recognize_language(text: str) -> str:
    """ISO 639-1 code of one of LANGUAGES, or ""."""
    text = text[:MAX_CHARS]
    if not text.isascii():
        kana, han = len(_KANA.findall(text)), len(_HAN.findall(text))
        if 3 * (kana + han) > len(text):
            return "ja" if 10 * kana > han else "zh"
    script, languages = _script(text)
    words = [fold_cue(word) for word in _WORD.findall(text.replace("'", " ").replace("’", " "))]
    votes = {language: _votes(words, load_vocabulary(language)) for language in languages}
    best = max(votes, key=votes.__getitem__, default="")
    rivals = max((_votes(words, rival) for rival in _unread().get(script, ())), default=0.0)
    return best if best and votes[best] > 0 and votes[best] >= rivals else ""


def _script(text: str) -> tuple[str, Sequence[str]]:
    if text.isascii():
        name, _, languages = _SCRIPTS[-1]
        return name, languages
    counts = [len(pattern.findall(text)) for _, pattern, _ in _SCRIPTS]
    most = max(counts)
    if 3 * most < len(_WORD.findall(text)) or not most:
        return "", ()
    name, _, languages = _SCRIPTS[counts.index(most)]
    return name, languages


def _votes(words: Sequence[str], vocabulary: frozenset[str]) -> float:
    """Words that belong to a language; one that tells more, as it is longer, counts more."""
    return sum(min(len(word), 5) for word in words if word in vocabulary)


@lru_cache(maxsize=1)
def _unread() -> dict[str, tuple[frozenset[str], ...]]:
    listed = tomllib.loads((FOLDER / "unread.toml").read_text(encoding="utf-8"))
    return {
        script: tuple(frozenset(fold_cue(word) for word in words.split()) for words in languages.values())
        for script, languages in listed.items()
    }
