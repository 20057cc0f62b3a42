"""Sentence embeddings: of a tiny model in this process, and of a server."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from transformers import BertConfig, BertModel, BertTokenizer

from evaluation.scoring.minilm import Encoder, embed_locally
from tests.unit.services.engine.fake_engine import FakeEngine
from training.exceptions import CheckpointError
from training.synthesis.engines import EngineFailed, embedded

TEXTS = ["a walk by the sea", "the sea", "a walk a walk a walk a walk a walk a walk a walk a walk", "sea"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sentences")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "walk", "by", "the", "sea"]
    (made / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(made / "vocab.txt")).save_pretrained(made)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=12, **shape)).save_pretrained(made)
    return made


def test_vectors_have_length_one_and_do_not_depend_on_their_batch(folder: Path) -> None:
    encoder = Encoder(folder)
    together = encoder.encode(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        assert sum(value * value for value in vector) == pytest.approx(1)
        assert encoder.encode([text])[0] == pytest.approx(vector, abs=1e-5)
        assert list(embed_locally(str(folder), TEXTS)[text]) == pytest.approx(vector, abs=1e-5)


def test_a_long_text_is_cut_to_what_the_model_reads(folder: Path) -> None:
    encoder = Encoder(folder)
    assert encoder.encode(["sea " * 500])[0] == pytest.approx(encoder.encode(["sea " * 10])[0], abs=1e-5)


def test_a_server_gives_a_vector_for_each_text() -> None:
    fake = FakeEngine()

    async def answer(request: web.Request) -> web.StreamResponse:
        texts = (await request.json())["input"]
        data = [{"index": index, "embedding": [len(text), 1.0]} for index, text in enumerate(texts)]
        return web.json_response({"data": data})

    async def ask() -> dict[str, list[float]]:
        async with fake.serving() as url:
            return {text: list(vector) for text, vector in (await embedded(url, [*TEXTS, TEXTS[0]])).items()}

    fake.chat = answer
    assert asyncio.run(ask()) == {text: [len(text), 1.0] for text in TEXTS}


def test_models_that_are_absent_are_told(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="embeddings server"):
        asyncio.run(embedded("http://127.0.0.1:9/v1", ["sea"]))
    with pytest.raises(CheckpointError, match="sentence model"):
        Encoder(tmp_path)
