import pytest

from gateway.routing import RoutingTable
from services.errors import RequestError, RouteUnknown

TABLE = RoutingTable()


@pytest.mark.parametrize(
    ("path", "template", "service"),
    [
        (b"/v1/users/ann", "/v1/users/{user}", "preference"),
        (b"/v1/users/a%20b%3F%23%25/events", "/v1/users/{user}/events", "preference"),
        (b"/v1/users/events/events", "/v1/users/{user}/events", "preference"),
        (b"/v1/users/ann@example.com/dead-letters", "/v1/users/{user}/dead-letters", "preference"),
        (b"/v1/users/...ann/export", "/v1/users/{user}/export", "preference"),
        (b"/v1/users/%E4%BD%A0/preferences", "/v1/users/{user}/preferences", "preference"),
        (b"/v1/users/u/preferences/stream", "/v1/users/{user}/preferences/stream", "preference"),
        (b"/v1/users/u/preferences/versions/7", "/v1/users/{user}/preferences/versions/{version}", "preference"),
        (b"/v1/quality", "/v1/quality", "preference"),
        (b"/v1/users/u/select", "/v1/users/{user}/select", "response"),
        (b"/v1/users/u/recommend", "/v1/users/{user}/recommend", "response"),
        (b"/v1/chat/completions", "/v1/chat/completions", "response"),
        (b"/v1/models", "/v1/models", "response"),
    ],
)
def test_paths_find_their_service(path: bytes, template: str, service: str) -> None:
    route = TABLE.find(path)
    assert (route.path, route.service) == (template, service)


@pytest.mark.parametrize(
    "path",
    [
        b"/v1",
        b"/v1/",
        b"/v1/users",
        b"/v1/users/",
        b"/v1/users//events",
        b"/v1/users/ann/",
        b"/v1/users/ann/secrets",
        b"/v1/users/ann/events/1",
        b"/v1/livez",
        b"/v1/chat/completions/x",
        b"/v1/users/ann%/events",
        b"/v1/users/ann%2/events",
        b"/v1/users/a\\b/events",
        b"/v1/users/a b/events",
        b"/v1/users/\xff/events",
        b"/v2/users/ann",
    ],
)
def test_other_paths_are_unknown(path: bytes) -> None:
    with pytest.raises(RouteUnknown):
        TABLE.find(path)


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/users/../quality",
        b"/v1/users/./events",
        b"/v1/users/%2e%2e/events",
        b"/v1/users/.%2E/events",
        b"/v1/users/ann%2Fevents",
        b"/v1/users/ann%2f..%2fbob/events",
        b"/v1/users/ann%5Cevents",
        b"/v1/users/ann%00/events",
        b"/v1/users/ann%0d%0a/events",
        b"/v1/users/%FF/events",
        b"/v1/users/%C3%28/events",
    ],
)
def test_paths_with_two_readings_are_refused(path: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        TABLE.find(path)
    assert caught.value.status in (400, 404)
