"""The public and the stored contract are those of the snapshots, to the byte.

pytest tests/contract        (after an intended change: python -m tests.contract.capture, and read the diff)
"""

import difflib
from collections.abc import Callable
from itertools import islice

import pytest

from tests.contract.capture import COMMAND, DOCUMENTS, REDIS, SNAPSHOTS
from tests.contract.scenario import play_scenario


def compare(name: str, text: str) -> None:
    snapshot = (SNAPSHOTS / name).read_text(encoding="utf-8")
    if text != snapshot:
        lines = difflib.unified_diff(snapshot.splitlines(), text.splitlines(), "snapshot", "now", lineterm="")
        difference = "\n".join(islice(lines, 200))
        pytest.fail(f"{name} has changed; if that is meant, run: {COMMAND}\n{difference}", pytrace=False)


@pytest.mark.parametrize(("name", "document"), DOCUMENTS.items())
def test_a_document_is_the_snapshot(name: str, document: Callable[[], str]) -> None:
    compare(name, document())


@pytest.mark.anyio
async def test_what_redis_holds_is_the_snapshot(redis_url: str) -> None:
    compare(REDIS, await play_scenario(redis_url))
