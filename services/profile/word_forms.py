"""The forms of a word that count as one, and what the words of an item mention."""

from collections.abc import Iterable
from functools import lru_cache

_ENDINGS: tuple[str, ...] = (
    *("ingly", "ively", "ations", "ation", "istic", "ments", "ment", "ness", "able", "ical", "ally", "ions"),
    *("ism", "ist", "ing", "ion", "ive", "ity", "ies", "ed", "er", "ly", "al", "ic", "es", "y", "e"),
)
_JOINERS = frozenset(["free", "non", "based", "derived", "related", "style", "like", "friendly", "heavy", "up"])
_ABSENT = frozenset(["no", "without", "minimal", "non", "avoid", "avoids", "not", "zero", "free"])


def stem(word: str) -> str:
    """The same key for singular and plural, good enough to match a statement with an item."""
    if len(word) > 4 and word.endswith("ies") and word != "series":
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] not in "isu" and word != "news" else word


@lru_cache(maxsize=32_768)
def root(word: str) -> str:
    """The same key for a word's inflections, good enough to match a statement with an item: no word to show."""
    word = stem(word)
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls" else word
    return word


def mentions(tokens: Iterable[str]) -> dict[str, int]:
    """The roots of what an item's words speak of: 1, or -1 where the item goes without it ("sugar-free")."""
    stated: dict[str, int] = {}
    absent = 1
    for token in tokens:
        if "-" in token:
            parts = token.split("-")
            sign = -1 if parts[-1] == "free" or parts[0] == "non" else absent
            for part in parts:
                if part not in _JOINERS:
                    stated.setdefault(root(part), sign)
        else:
            stated.setdefault(root(token), absent)
        absent = -1 if token in _ABSENT else 1
    return stated
