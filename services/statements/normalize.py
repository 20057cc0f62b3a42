"""One form of Unicode for texts that are kept, another for words that are compared.

Kept texts are in NFC. Words are compared by NFKC casefold, so that full-width letters, either form of an accent
and the Turkish dotless i are one word. A combining mark belongs to the word before it.
"""

import re
import sys
import unicodedata
from functools import lru_cache


def _mark_ranges() -> str:
    """The combining marks as the inside of a character class; `\\w` leaves out most of them."""
    ranges: list[list[int]] = []
    for code in range(0x300, sys.maxunicode + 1):
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
        elif code == 0x1FFFF:
            break
    ranges.append([0xE0100, 0xE01EF])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


MARKS = _mark_ranges()
WORD = rf"[^\W_]+(?:[{MARKS}]+[^\W_]*)*"
"""A regular expression of a word with its marks."""
UNSPACED = "\u3005\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f"
"""Characters of Chinese and Japanese, which put no spaces between words."""
_REPLACED = (("ı", "i"), ("İ", "i"), ("’", "'"), *((char, "") for char in "\u200b\u200c\u200d\u2060\ufeff\xad"))
_SPELLINGS = str.maketrans("أإآٱىةँ", "اااايةं".replace("ة", "ه"), "ـ़ٰ" + "".join(map(chr, range(0x64B, 0x653))))
_ACCENT = re.compile("[\u0300-\u036f]+")


def compose(text: str) -> str:
    """The text in NFC."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def fold(text: str) -> str:
    """The form by which words are compared."""
    if text.isascii():
        return text.lower()
    for char, replacement in _REPLACED:
        if char in text:
            text = text.replace(char, replacement)
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFC", folded.replace("i\u0307", "i"))


@lru_cache(maxsize=16_384)
def fold_cue(word: str) -> str:
    """The form by which the words of a lexicon are compared: spellings of Arabic and Hindi that writers mix are one."""
    return word.lower() if word.isascii() else fold(word).translate(_SPELLINGS)


def strip_accents(word: str) -> str:
    """As a hurried writer types it."""
    return unicodedata.normalize("NFC", _ACCENT.sub("", unicodedata.normalize("NFD", word)))
