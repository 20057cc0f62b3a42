"""Tells text that a model writes when it has lost its way: loops, noise, gibberish. No word lists, any language.

Pure functions; each names its formula and threshold.
"""

import math
import re
import unicodedata
import zlib
from collections import Counter
from typing import Final

UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Scripts that set no space between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
_UNSPACED_WORD = re.compile(rf"[{UNSPACED}]")
_GRAM, _UNSPACED_GRAM = 4, 8
"""Words, or characters of an unspaced script, of the pieces by which texts are compared."""
_MIN_GRAMS: Final = 12
_MIN_DISTINCT: Final = 0.35
"""Smallest share of such pieces that differ. In prose it is above .9, in lists of like sentences above .45."""
_MAX_RATIO: Final = 8.0
"""UTF-8 bytes over deflated bytes. Prose of 300 words gives about 2, lists of like sentences up to 6."""
_MAX_PERIOD: Final = 600
_LIST_NUMBER = re.compile(r"^[ \t]*\d+[.):]", re.MULTILINE)
_MIN_LETTERS: Final = 0.2
"""Smallest share of letters and their marks among the characters that are no space. Prose has above .9, a list
of years and sizes above .4."""
_MIN_ENTROPY: Final = 2.6
"""Bits a character, over 80 characters and more. Prose of an alphabet has about 4."""
_VOWELS: Final = frozenset(
    "aeiouyàáâãäåæèéêëìíîïòóôõöøœùúûüýÿāēīōūąęėįųőűạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ"
)
_MIN_VOWELS: Final = 0.22
"""Smallest share of vowels among Latin letters, over 40 of them. Natural languages have .3 and more."""
_READ_CHARS: Final = 2_000
"""Characters of a text in which noise is looked for."""
_MOJIBAKE = re.compile(r"[ÃÂ][\u0080-\u00bf]|â€|\ufffd|Ð[\u0080-\u00bf°±²³µ¶·¸¹º»¼½¾]")
MIN_WORDS: Final = 3
"""Words that say something."""
_MAX_MOJIBAKE: Final = 0.02
"""Greatest share of characters that a wrong encoding has made."""


def degeneration(text: str) -> str:
    """What is wrong with the text, in words; "" for nothing. The numbers of a list do not count, so that a list
    of one and the same item is a loop."""
    plain = " ".join(_LIST_NUMBER.sub("", text).split())
    if _has_few_phrases(plain) or _ends_in_period(plain) or _compresses_well(plain):
        return "it repeats itself"
    return "it is no language" if _is_noise(plain[:_READ_CHARS]) else ""


def _has_few_phrases(text: str) -> bool:
    words = split_words(text.lower())
    grams = make_grams(words, gram_size(words))
    return len(grams) >= _MIN_GRAMS and len(set(grams)) < _MIN_DISTINCT * len(grams)


def _ends_in_period(text: str) -> bool:
    """Whether the text ends in the same piece again and again, the last time perhaps cut off."""
    for period in range(1, min(_MAX_PERIOD, len(text) // 3) + 1):
        times = 3 if period > 24 else 4 if period > 8 else 24 // period + 3
        tail = text[-times * period :]
        if len(tail) == times * period and tail[period:] == tail[:-period] and any(map(str.isalpha, tail)):
            return True
    return False


def _compresses_well(text: str) -> bool:
    data = text.encode("utf-8", "replace")
    return len(data) > 400 and len(data) / len(zlib.compress(data)) > _MAX_RATIO


def _is_noise(text: str) -> bool:
    chars = text.replace(" ", "").lower()
    if len(chars) < 12:
        return False
    letters = [char for char in chars if unicodedata.category(char)[0] in "LM"]
    if len(letters) < _MIN_LETTERS * len(chars) or len(_MOJIBAKE.findall(text)) > _MAX_MOJIBAKE * len(chars):
        return True
    if len(chars) >= 80 and _entropy(chars) < _MIN_ENTROPY:
        return True
    latin = [char for char in letters if unicodedata.name(char, "").startswith("LATIN")]
    return len(latin) >= 40 and sum(char in _VOWELS for char in latin) < _MIN_VOWELS * len(latin)


def _entropy(chars: str) -> float:
    """Shannon's entropy of the characters, in bits: the sum of -p log2 p."""
    shares = [count / len(chars) for count in Counter(chars).values()]
    return -sum(share * math.log2(share) for share in shares)


# --- words -------------------------------------------------------------------------------------


def split_words(text: str) -> list[str]:
    """Words; of scripts without spaces, characters."""
    return _WORD.findall(text)


def make_grams(words: list[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[start:] for start in range(size)), strict=False))


def gram_size(words: list[str]) -> int:
    return _UNSPACED_GRAM if count_unspaced(words) * 2 > len(words) else _GRAM


def count_unspaced(words: list[str]) -> int:
    return sum(map(bool, map(_UNSPACED_WORD.match, words)))


def count_words(text: str | list[str]) -> int:
    """Words; of scripts without spaces two characters count as one."""
    words = split_words(text) if isinstance(text, str) else text
    unspaced = 0 if "".join(words).isascii() else count_unspaced(words)
    return len(words) - unspaced + -(-unspaced // 2)
