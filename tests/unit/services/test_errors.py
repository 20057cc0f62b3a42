"""The error tree: the drawing is the code, and both shapes an error takes on the wire."""

import re
from http import HTTPStatus

import pytest

from alignx.schemas.status import PROBLEM_PREFIX
from services import errors
from services.errors import (
    AlignXError,
    BacklogFull,
    BudgetSpent,
    EngineRejected,
    EngineUnsupported,
    InvalidRequest,
    NoEngine,
    PayloadTooLarge,
    RequestError,
    StoreUnavailable,
    Unavailable,
    error_tree,
)

_ROW = re.compile(r"^ {4}(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+) +(?P<status>\d{3}) (?P<code>\w+)", re.MULTILINE)


def test_the_drawing_is_the_tree() -> None:
    drawn, above = [], list[str]()
    for row in _ROW.finditer(errors.__doc__ or ""):
        depth = len(row["indent"]) // 4
        above[depth:] = [row["name"]]
        drawn.append((above[depth - 1] if depth else "Exception", row["name"], int(row["status"]), row["code"]))
    real = [(cls.__base__.__name__, cls.__name__, cls.status, cls.code) for cls in error_tree() if cls.__base__]
    assert sorted(drawn) == sorted(real)


def test_every_error_has_a_code_and_a_title_of_its_own() -> None:
    tree = list(error_tree())
    assert tree[0] is AlignXError
    assert len({cls.code for cls in tree}) == len({cls.title for cls in tree}) == len(tree)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", cls.code) and HTTPStatus(cls.status) for cls in tree)
    assert all(400 <= cls.status < 500 for cls in tree if issubclass(cls, RequestError))
    special = {NoEngine: 501, EngineUnsupported: 501, BudgetSpent: 429}
    assert all(cls.status == special.get(cls, 503) for cls in tree if issubclass(cls, Unavailable))


def test_a_bare_error_says_its_title() -> None:
    error = StoreUnavailable()
    assert (str(error), error.detail, error.retry_after, error.errors) == (error.title, error.title, None, ())
    assert error.problem() == {
        "type": PROBLEM_PREFIX + "store_unavailable",
        "title": "Redis does not answer",
        "status": 503,
        "detail": "Redis does not answer",
    }


def test_a_problem_names_fields_place_request_and_what_else_helps() -> None:
    fields = [{"field": "events.0.text", "message": "is missing"}]
    error = InvalidRequest("events.0.text: is missing", errors=fields, limit=3)
    assert error.problem(instance="/v1/x", request_id="r1") == {
        "type": "urn:alignx:problem:invalid_request",
        "title": "A field of the request is not valid",
        "status": 422,
        "detail": "events.0.text: is missing",
        "limit": 3,
        "errors": fields,
        "instance": "/v1/x",
        "request_id": "r1",
    }
    assert PayloadTooLarge(limit_bytes=9).problem()["limit_bytes"] == 9


@pytest.mark.parametrize(
    ("error", "kind", "field"),
    [
        (InvalidRequest("no", errors=[{"field": "model", "message": "no"}]), "invalid_request_error", "model"),
        (BacklogFull("no", retry_after=2.0), "invalid_request_error", None),
        (EngineRejected("no"), "invalid_request_error", None),
        (StoreUnavailable("no"), "server_error", None),
        (AlignXError("no"), "server_error", None),
    ],
)
def test_the_same_error_in_openais_shape(error: AlignXError, kind: str, field: str | None) -> None:
    assert error.openai() == {"error": {"message": "no", "type": kind, "param": field, "code": error.code}}
