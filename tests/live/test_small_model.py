"""`make up` with no options: the small English model, prepared and served, writes of six people what a reader can use.

vLLM is started as on a machine without a compiler, which spares two minutes of compiling."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from docker.local.environment import OFFSETS
from examples.demo import load_plan
from tests.conftest import free_port, wait_until
from tests.live.suite import ROOT, run

HISTORIES = json.loads(Path(__file__).with_name("english_histories.json").read_text())
MODELS = ROOT / "var" / "models"
LONGEST = 1_200
"""Characters: three times the longest summary that the model is trained to write."""
WRITE_S = 240.0
"""Longest wait on a busy machine for a version; where the model's drafts are refused, the profile writes it."""


@dataclass(frozen=True)
class Person:
    name: str
    themes: tuple[str, ...]
    parts: tuple[tuple[object, ...], ...]
    """Events of each append."""


def people() -> Iterator[Person]:
    for user in load_plan().users:
        events = [event.model_dump(mode="json", exclude_none=True) for event in user.events()]
        ends = [sum(user.parts[: number + 1]) for number in range(len(user.parts))]
        parts = tuple(tuple(events[end - size : end]) for size, end in zip(user.parts, ends, strict=True))
        yield Person(user.user, user.themes, parts)
    for history in HISTORIES:
        yield Person(history["user"], tuple(history["themes"]), (tuple(history["events"]),))


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the suite that `make up` starts. The converted model is shared with `make up` itself."""
    home = tmp_path_factory.mktemp("up")
    MODELS.mkdir(parents=True, exist_ok=True)
    (home / "models").symlink_to(MODELS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ALIGNX_", "COV_"))}
    environment["ALIGNX_GATEWAY__HUNG_AFTER_S"] = "15"  # as in tests/live/suite.py
    (home / "bin").mkdir()
    for name in ("lscpu", "make"):
        (home / "bin" / name).symlink_to(str(shutil.which(name)))
    environment["PATH"] = str(home / "bin")  # holds what vLLM and `make up` call, and no compiler
    port = next(base for base in iter(free_port, None) if base + max(OFFSETS.values()) < 65_000)
    command = [sys.executable, "-m", "docker.local.suite"]
    started = subprocess.run(
        [*command, "up", "--home", str(home), "--port", str(port)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        assert re.search("/console.*vLLM is warm", started.stdout, re.DOTALL), started.stdout
        status = run(*command, "status", "--home", home, code=None)
        assert "The language model models/alignx-small answers." in status.stdout
        key = (home / "secrets" / "user_key").read_text()
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}, timeout=120
        ) as client:
            yield client
    finally:
        subprocess.run([*command, "down", "--home", str(home)], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def versions(up: httpx.Client) -> dict[str, list[dict[str, str]]]:
    """Every summary that was written of each person, oldest first; all are fed at once."""
    persons = list(people())
    with ThreadPoolExecutor(len(persons)) as pool:
        written = pool.map(lambda person: feed(up, person), persons)
    return dict(zip((person.name for person in persons), written, strict=True))


def feed(client: httpx.Client, person: Person) -> list[dict[str, str]]:
    user, texts = f"/v1/users/{person.name}", []

    def read() -> dict[str, Any]:
        current: dict[str, Any] = client.get(f"{user}/preferences").raise_for_status().json()
        return current

    for part in person.parts:
        client.post(f"{user}/events", json={"events": part}).raise_for_status()
        wait_until(lambda: read()["pending"] == 0, WRITE_S, read)
        texts.append(read())
    return texts


@pytest.mark.parametrize("person", tuple(people()), ids=lambda person: person.name)
def test_every_summary_is_whole_and_names_a_theme(versions: dict[str, list[dict[str, str]]], person: Person) -> None:
    written = [version["text"] for version in versions[person.name] if version["source"] == "llm:alignx-small"]
    for text in written:
        assert text.endswith("."), text
        assert len(text) < LONGEST, text
        sentences = re.split(r"(?<=\.)\s+", text)
        assert all(sentence.startswith("The user ") for sentence in sentences), text
        assert len(set(sentences)) == len(sentences), text
    served = [version["text"].lower() for version in versions[person.name]]
    assert any(theme in text for theme in person.themes for text in served), served
    sys.stdout.write(f"{person.name}: " + " | ".join(version["text"] for version in versions[person.name]) + "\n")


def test_the_model_answers_a_chat_and_ends_its_turn(up: httpx.Client) -> None:
    body = {"model": "alignx-small", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    body |= {"temperature": 0}
    answer = up.post("/v1/chat/completions", json=body).raise_for_status().json()["choices"][0]
    assert "Paris" in answer["message"]["content"]
    assert answer["finish_reason"] == "stop"
