"""Vectors of texts without a model server: from the table of word pieces that the package `wordllama` brings.

A word's vector is the sum of its pieces' rows, a text's the sum of its words', made of length one: 256 numbers. The
package itself is never imported, since its loader asks a network; its two files are read here, the rows as half
precision from the disk, shared by all processes of a machine. Vectors of words are cached: their pieces cost ten times
the sum.

    first, second = embed(["horror films", "scary movies"])
    first @ second  # their cosine, 0.67
"""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from services.profile.style_features import words

WIDTH = 256
MAX_TEXT_WORDS = 256
"""Words of a text that are read."""
MAX_CACHED = 16_384
"""Words whose vectors are cached, in 16 MB."""
_CHUNK = MAX_CACHED // MAX_TEXT_WORDS
"""Texts embedded at once: few, so that their words fit the cache and others wait for it a millisecond at most."""
_PIECES = "tokenizers/l2_supercat_tokenizer_config.json"
_ROWS = "weights/l2_supercat_256.safetensors"

Vectors = NDArray[np.float32]


class WordTable:
    """Open one a process, with `load`. Its methods may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer: Any = Tokenizer.from_file(str(folder / _PIECES))
        self._rows = _map_rows(folder / _ROWS)
        self._places: dict[str, int] = {}
        self._cached = np.zeros((MAX_CACHED, WIDTH), np.float32)
        self._lock = Lock()

    def embed(self, texts: Sequence[Sequence[str]], weigh: Callable[[str], float] | None = None) -> Vectors:
        """One row of length one for the words of each text, each word weighed; zeros for a text without words."""
        vectors = np.zeros((len(texts), WIDTH), np.float32)
        for start in range(0, len(texts), _CHUNK):
            self._sum_words([text[:MAX_TEXT_WORDS] for text in texts[start : start + _CHUNK]], vectors[start:], weigh)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, lengths, out=vectors, where=lengths > 0)
        return vectors

    def holds(self, word: str) -> bool:
        """Whether it is one piece of the table, as everyday words are."""
        return self._tokenizer.token_to_id(f"▁{word}") is not None

    def _sum_words(self, texts: Sequence[Sequence[str]], sums: Vectors, weigh: Callable[[str], float] | None) -> None:
        filled = [index for index, text in enumerate(texts) if text]
        if not filled:
            return
        counts = np.array([len(texts[index]) for index in filled])
        spoken = [word for text in texts for word in text]
        with self._lock:
            if missing := set(spoken).difference(self._places):
                self._add(list(missing), spoken)
            rows = self._cached[[self._places[word] for word in spoken]]
        if weigh:
            by_word = {word: weigh(word) for word in set(spoken)}
            rows *= np.array([by_word[word] for word in spoken], np.float32)[:, None]
        sums[filled] = np.add.reduceat(rows, np.cumsum(counts) - counts, axis=0)

    def _add(self, missing: list[str], spoken: Sequence[str]) -> None:
        if len(self._places) + len(missing) > MAX_CACHED:
            self._places.clear()
            missing = list(set(spoken))
        first = len(self._places)
        self._cached[first : first + len(missing)] = self._sum_pieces(missing)
        self._places.update(zip(missing, range(first, MAX_CACHED), strict=False))

    def _sum_pieces(self, spoken: list[str]) -> Vectors:
        encoded = self._tokenizer.encode(spoken, is_pretokenized=True, add_special_tokens=False)
        owners, pieces = np.array(encoded.word_ids), np.array(encoded.ids)
        counts = np.bincount(owners, minlength=len(spoken))
        starts = np.cumsum(counts) - counts
        sums = np.zeros((len(spoken), WIDTH), np.float32)
        for place in range(counts.max(initial=0)):  # many words of few pieces: one step a place
            longer = counts > place
            sums[longer] += self._rows[pieces[starts[longer] + place]]
        return sums


@lru_cache(maxsize=1)
def load() -> WordTable:
    """The table, read once (70 ms). Raises ModuleNotFoundError where the package is not installed."""
    return WordTable(find_folder())


def find_folder() -> Path:
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("wordllama is not installed: install alignx[services]", name="wordllama")
    return Path(spec.origin).parent


def embed(texts: Sequence[str]) -> Vectors:
    """One row of length one a text; zeros for a text without words."""
    return load().embed(list(map(words, texts)))


def _map_rows(path: Path) -> NDArray[np.float16]:
    """The one tensor of a safetensors file: eight bytes that count a JSON header, the header, the numbers."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        (tensor,) = [entry for name, entry in json.loads(file.read(size)).items() if name != "__metadata__"]
    rows, width = tensor["shape"]
    if tensor["dtype"] != "F16" or width != WIDTH:
        raise ValueError(f"{path.name} holds {tensor['dtype']} of width {width}, not half precision of {WIDTH}")
    return np.memmap(path, np.float16, "r", 8 + size + tensor["data_offsets"][0], (rows, width))
