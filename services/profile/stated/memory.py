"""What the user said in dialogues and posts, sentence by sentence, and how far it bears out what an option tells them.

An answer may tell a person what they said before: "as you mentioned, …". Of each such sentence the words that not all
options hold are compared with every sentence that the user said: the cosine of the two sums of word vectors, each word
weighed by how rare it is in what they said (inverse document frequency), which counts more where that sentence
bears on the query. The support of an option is the mean over its sentences of the best one, so that length gains
nothing; it counts against the mean of the options that claim something. So an option loses that claims what nothing
said comes near to. An option that claims nothing neither gains nor loses: what is liked and disliked among the things
that it names is for clauses to tell (`matching`).
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache, reduce
from itertools import chain
from math import log
from typing import Final, NamedTuple

import numpy as np
import orjson

from services.profile.item_features import clean
from services.profile.stated.clauses import mask_identifiers
from services.profile.stated.withheld import asks_to_forget, hides, read_request
from services.profile.style_features import STOP, words
from services.profile.word_forms import root
from services.profile.word_table import Vectors, load
from services.statements.clauses import MAX_QUOTE, split_sentences
from services.statements.language import recognize_language

MAX_MEMORY: Final = 32_000
"""Bytes of all sentences, of which 12 kB are stored; the oldest go first."""
LEAST_WORDS: Final = 3
"""Words that tell something, in a sentence that is kept."""
MAX_OPTIONS: Final = 32
"""More options are a list to choose from, and no answers."""
BY_SUPPORT: Final = 16.0
"""Log-odds of an option whose support is higher by 1 than that of the others."""
APART: Final = 0.5
"""What a sentence counts that does not bear on the query at all, against 1.5 for one that says the same."""
USUAL: Final = 50
"""Sentences without any of the words, which the count of what was said begins with."""


_TELLS: Final = re.compile(
    r"\b(?:remember|recall|mention(?:ed|ing)?|said|saying|told|telling|expressed|noted|shared|indicated|previous(?:ly)?"
    r"|past|before|earlier|initial(?:ly)?|at first|used to|since you|you(?:['’]ve| have)"
    r"|(?:given|based on|with|of|for) your|your (?:love|interest|passion|enjoyment|preference|appreciation))\b",
    re.IGNORECASE,
)
"""Of what somebody said or did before. English alone, as are the vectors."""
_SELF: Final = re.compile(r"\b(?:I|me|my|mine|myself|we|us|our)\b", re.IGNORECASE)
_ADDRESSES: Final = re.compile(r"\byou(?:rs?|['’]\w+)?\b", re.IGNORECASE)


class Said(NamedTuple):
    text: str
    event: int
    day: int
    """On which it was said; 0 where that is not known."""


class Recall(NamedTuple):
    """What speaks for each option."""

    odds: tuple[float, ...]
    said: tuple[Said | None, ...]
    """What comes nearest to its claims; None of an option without any."""


class _Index(NamedTuple):
    said: tuple[Said, ...]
    counts: Counter[str]
    """Sentences by root of a word."""
    vectors: Vectors

    def embed(self, texts: Sequence[Sequence[str]]) -> Vectors:
        return _embed(texts, self.counts, len(self.said))


def remember(memory: bytes, texts: Iterable[str], event: int, day: int) -> bytes:
    """The memory with the sentences of more texts that tell of the user. What is asked tells nothing; a request to
    forget something is followed."""
    kept = {said.text: said for said in recall(memory)}
    for sentence in chain.from_iterable(map(split_sentences, texts)):
        if asks_to_forget(sentence):
            kept = _without(kept, sentence)
        elif _tells_of_self(sentence):
            text = clean(mask_identifiers(sentence), MAX_QUOTE)
            kept.pop(text, None)
            kept[text] = Said(text, event, day)
    return _pack(kept.values())


def forget(memory: bytes, text: str) -> bytes:
    """The memory without what a statement asks to forget."""
    requests = [sentence for sentence in split_sentences(text) if asks_to_forget(sentence)] if memory else []
    if not requests:
        return memory
    return _pack(reduce(_without, requests, {said.text: said for said in recall(memory)}).values())


def _without(kept: dict[str, Said], sentence: str) -> dict[str, Said]:
    request = read_request(sentence, recognize_language(sentence))
    return {text: said for text, said in kept.items() if not request.covers(text, recognize_language(text))}


def _tells_of_self(sentence: str) -> bool:
    if sentence.endswith("?") or hides(sentence, "en") or not _SELF.search(sentence):
        return False
    return len(_telling(sentence)) >= LEAST_WORDS


def _pack(said: Iterable[Said]) -> bytes:
    room, kept = MAX_MEMORY, list[list[str | int]]()
    for sentence in reversed([*said]):
        room -= len(sentence.text.encode())
        if room < 0:
            break
        kept.append(list(sentence))
    return zlib.compress(orjson.dumps(kept[::-1])) if kept else b""


@lru_cache(maxsize=32)
def recall(memory: bytes) -> tuple[Said, ...]:
    """All sentences, the newest last."""
    return tuple(Said(*fields) for fields in orjson.loads(zlib.decompress(memory))) if memory else ()


def support(memory: bytes, query: str, options: Sequence[str]) -> Recall | None:
    """What was said that speaks for each of a few options; None where nothing was said, or fewer than two options
    claim anything of the user."""
    if not memory or len(options) > MAX_OPTIONS:
        return None
    parts = _distinguish(options)
    owners = np.repeat(np.arange(len(options)), [len(sentences) for sentences in parts])
    claiming = np.unique(owners)
    if len(claiming) < 2:
        return None
    index = _index(memory)
    near = index.embed([words for sentences in parts for words in sentences]) @ index.vectors.T
    bearing = np.clip(index.vectors @ index.embed([_telling(query)])[0], 0.0, 1.0)
    weighed = near * (APART + bearing)
    counts = np.bincount(owners, minlength=len(options))
    best = np.bincount(owners, weighed.max(axis=1), len(options)) / np.maximum(counts, 1)
    odds = np.where(counts, BY_SUPPORT * (best - best[claiming].mean()), 0.0)
    nearest: list[Said | None] = [None] * len(options)
    for row in np.argsort(weighed.max(axis=1)):  # the nearest last
        nearest[owners[row]] = index.said[weighed[row].argmax()]
    return Recall(tuple(odds.round(4).tolist()), tuple(nearest))


def _distinguish(options: Sequence[str]) -> list[list[list[str]]]:
    """By option and sentence that claims something of the user: the words that not all options hold."""
    held = [Counter(map(root, set(_telling(option)))) for option in options]
    shared = frozenset.intersection(*map(frozenset, held))
    parts = []
    for option in options:
        sentences = [
            [word for word in _telling(text) if root(word) not in shared]
            for text in split_sentences(option)
            if _ADDRESSES.search(text) and _TELLS.search(text)
        ]
        parts.append([sentence for sentence in sentences if sentence])
    return parts


def _telling(text: str) -> list[str]:
    return [word for word in words(text) if word not in STOP and len(word) > 2]


@lru_cache(maxsize=32)
def _index(memory: bytes) -> _Index:
    said = recall(memory)
    spoken = [_telling(sentence.text) for sentence in said]
    counts = Counter(key for sentence in spoken for key in set(map(root, sentence)))
    return _Index(said, counts, _embed(spoken, counts, len(said)))


def _embed(texts: Sequence[Sequence[str]], counts: Counter[str], number: int) -> Vectors:
    return load().embed(texts, lambda word: log((number + USUAL) / (counts[root(word)] + 0.5)))
