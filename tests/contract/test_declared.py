"""The watch over declared statuses does see what is not declared."""

import pytest

from gateway.routing import ROUTES
from services.errors import AlignXError, RateLimited, StaleVersion
from services.server import app
from tests.contract.declared import check_status, problems_watched

PATH = "/v1/users/{user}/preferences"


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("GET", 304), ("GET", 404), ("PUT", 428), ("POST", 405)])
def test_what_is_declared_passes(method: str, status: int) -> None:
    check_status(method, "/v1/users/ada%20b/preferences?format=text", status)


@pytest.mark.parametrize(("method", "status"), [("GET", 428), ("GET", 418), ("PUT", 404), ("POST", 200)])
def test_what_is_not_declared_fails(method: str, status: int) -> None:
    with pytest.raises(AssertionError, match=f"{method} /v1/users/{{user}}/preferences answers {status}"):
        check_status(method, "/v1/users/ada%20b/preferences", status)


def render(method: str, error: AlignXError) -> None:
    (route,) = (route for route in ROUTES if route.path == PATH)
    with problems_watched():
        app.problem_response({"type": "http", "method": method, "path": PATH, "route": route}, error)


def test_an_error_of_another_call_fails_though_its_status_is_declared() -> None:
    render("PUT", StaleVersion())
    render("GET", RateLimited())
    with pytest.raises(AssertionError, match="not in the OpenAPI document"):
        render("GET", StaleVersion())
