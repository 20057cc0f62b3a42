"""The public and the stored contract are those of the snapshots, to the byte.

pytest tests/contract        (after an intended change: python -m tests.contract.capture, and read the diff)
"""

import difflib
from collections.abc import Callable

import pytest

from tests.contract.capture import COMMAND, DOCUMENTS, REDIS, SNAPSHOTS, redis

_SHOWN = 200
"""Lines of a difference."""


def assert_as_kept(name: str, text: str) -> None:
    kept = (SNAPSHOTS / name).read_text(encoding="utf-8")
    if text != kept:
        difference = list(difflib.unified_diff(kept.splitlines(), text.splitlines(), "snapshot", "now", lineterm=""))
        shown = "\n".join(difference[:_SHOWN])
        pytest.fail(f"{name} has changed; if that is meant, run: {COMMAND}\n{shown}", pytrace=False)


@pytest.mark.parametrize(("name", "document"), DOCUMENTS.items())
def test_document_is_as_kept(name: str, document: Callable[[], str]) -> None:
    assert_as_kept(name, document())


def test_what_redis_holds_is_as_kept(redis_url: str) -> None:
    assert_as_kept(REDIS, redis(redis_url))
