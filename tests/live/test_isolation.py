"""A bounded part of `make security`: tenants, scopes, generated requests, injections, canaries, on real processes."""

from collections.abc import Iterator, Sequence

import pytest

from tests.live.suite import Suite
from tests.security import injections, run
from tests.security.operations import CannotFill, Document
from tests.security.run import Row

pytestmark = pytest.mark.live

SEED = 20


@pytest.fixture(scope="module")
def obeyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Suite, str]]:
    with run.obeyed(tmp_path_factory.mktemp("security")) as running:
        yield running


def wrong(rows: Sequence[Row]) -> dict[str, Sequence[str]]:
    assert all(row.count for row in rows), "a row that tries nothing proves nothing"
    return {row.tried: row.wrong[:5] for row in rows if row.wrong}


def test_no_call_reaches_another_tenant(obeyed: tuple[Suite, str]) -> None:
    assert wrong(run.check_isolation(*obeyed)) == {}


def test_a_key_or_token_does_what_the_openapi_document_says(obeyed: tuple[Suite, str]) -> None:
    assert wrong(run.check_scopes(obeyed[0])) == {}


def test_generated_requests_are_answered_in_form(obeyed: tuple[Suite, str]) -> None:
    assert wrong(run.check_requests(obeyed[0], 500, SEED)) == {}


def test_hostile_texts_reach_no_other_role_and_no_other_user(obeyed: tuple[Suite, str]) -> None:
    outcomes = injections.inject(obeyed[0], injections.make_pairs(injections.SLOTS, 1, SEED), obeyed[1])
    assert wrong(run.injection_rows({"obeying": outcomes})) == {}
    assert sum(bool(outcome.prompts) for outcome in outcomes) > 100


def test_no_log_and_no_metric_holds_a_canary(obeyed: tuple[Suite, str]) -> None:
    assert wrong(run.check_canaries(obeyed[0])) == {}


def test_a_route_that_cannot_be_filled_in_fails() -> None:
    parameter = {"name": "thing", "in": "path", "required": True, "schema": {"type": "string"}}
    document = Document({"paths": {"/v1/things/{thing}": {"get": {"parameters": [parameter]}}}})
    with pytest.raises(CannotFill, match="thing"):
        document.operations[0].fill({"user": ["ada"]})
