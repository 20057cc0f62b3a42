"""Sentence embeddings of a tiny model: as computed in this process, and as served to the engine client."""

import asyncio
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from transformers import BertConfig, BertModel, BertTokenizer

from evaluation.scoring.minilm import Encoder, create_app, embed_locally, main
from services.engine.limits import Engine
from services.settings import EngineSettings
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


def test_a_long_text_is_cut_to_what_the_model_reads(folder: Path) -> None:
    encoder = Encoder(folder)
    assert encoder.encode(["sea " * 500])[0] == pytest.approx(encoder.encode(["sea " * 10])[0], abs=1e-5)


def test_a_server_gives_what_the_process_computes(folder: Path) -> None:
    async def ask() -> dict[str, list[float]]:
        async with TestServer(create_app(Encoder(folder), "tiny")) as server:
            found = await embedded(str(server.make_url("/v1")), [*TEXTS, TEXTS[0]])
            async with Engine.open(EngineSettings(embeddings_url=str(server.make_url("/v1")))) as engine:
                assert await engine.embed(TEXTS[:1]) == [pytest.approx(list(found[TEXTS[0]]), abs=1e-5)]
            return {text: list(vector) for text, vector in found.items()}

    here = embed_locally(str(folder), TEXTS)
    found = asyncio.run(ask())
    assert found.keys() == here.keys() == set(TEXTS)
    for text, vector in here.items():
        assert found[text] == pytest.approx(list(vector), abs=1e-5)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"input": 3}', b'{"input": []}', b'{"input": ["a", 1]}'])
def test_what_cannot_be_embedded_is_refused(folder: Path, body: bytes) -> None:
    async def ask() -> int:
        async with TestClient(TestServer(create_app(Encoder(folder), "tiny"))) as client:
            answer = await client.post("/v1/embeddings", data=body, headers={"Content-Type": "application/json"})
            assert "input" in (await answer.json())["error"]["message"]
            return answer.status

    assert asyncio.run(ask()) == 400


def test_a_server_that_is_absent_is_told() -> None:
    with pytest.raises(EngineFailed, match="embeddings server"):
        asyncio.run(embedded("http://127.0.0.1:9/v1", ["sea"]))


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="sentence model"):
        Encoder(tmp_path)
    with pytest.raises(SystemExit, match="sentence model"):
        main(tmp_path)
