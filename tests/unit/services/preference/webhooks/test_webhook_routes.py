"""The calls on webhooks, as the gateway makes them."""

import httpx
import pytest

from alignx import AsyncAlignX, ProblemError
from alignx.schemas.webhooks import MOST_ENDPOINTS, WebhookChange
from services.server.app import TENANT_HEADER
from tests.unit.services.preference.served import Served, serving

pytestmark = pytest.mark.anyio

HOOKS = "/v1/webhooks"
URL = "https://shop.example/alignx"
OTHER = {TENANT_HEADER: "beta"}


async def register(served: Served, **more: object) -> dict[str, str]:
    answer = await served.http.post(HOOKS, json={"url": URL, **more})
    assert answer.status_code == 201, answer.text
    created: dict[str, str] = answer.json()
    return created


async def test_an_endpoint_from_its_registration_to_its_end(served: Served) -> None:
    created = await register(served, events=["user.erased"])
    secret, path = created.pop("secret"), f"{HOOKS}/{created['id']}"
    assert secret.startswith("whsec_")
    assert (await served.http.get(HOOKS)).json() == {"webhooks": [created]}
    assert (await served.http.get(HOOKS, headers=OTHER)).json() == {"webhooks": []}
    changed = (await served.http.patch(path, json={"enabled": False, "events": ["preferences.drift"]})).json()
    assert (changed["disabled"], changed["events"]) == ("Disabled by a call.", ["preferences.drift"])
    assert (await served.http.patch(path, json={"enabled": True})).json()["disabled"] is None
    rotated = (await served.http.post(f"{path}/rotate", json={"overlap_s": 60})).json()
    assert rotated["secret"] != secret
    assert rotated["previous_until"] is not None
    assert (await served.http.post(f"{path}/rotate")).status_code == 200
    queued = await served.http.post(f"{path}/test")
    assert queued.status_code == 202
    (delivery,) = (await served.http.get(f"{path}/deliveries")).json()["deliveries"]
    assert (delivery["id"], delivery["status"]) == (queued.json()["id"], "waiting")
    replayed = await served.http.post(f"{path}/deliveries/{delivery['id']}/replay")
    assert (replayed.status_code, replayed.json()) == (202, {"id": delivery["id"]})
    assert (await served.http.delete(path)).status_code == 204
    assert (await served.http.delete(path)).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "http://shop.example/"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": "https://[::1]/"}, "url"),
        ({"url": "ftp://shop.example"}, "url"),
        ({"url": "https://" + "a" * 3_000}, "url"),
        ({"url": URL, "events": []}, "events"),
        ({"url": URL, "events": ["user.born"]}, "events.0"),
        ({}, "url"),
    ],
)
async def test_what_no_endpoint_can_be(served: Served, body: dict[str, object], field: str) -> None:
    answer = await served.http.post(HOOKS, json=body)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    created = await register(served)
    if "url" in body and field == "url":
        assert (await served.http.patch(f"{HOOKS}/{created['id']}", json=body)).status_code == 422


async def test_a_tenant_has_few_endpoints(served: Served) -> None:
    for _ in range(MOST_ENDPOINTS):
        await register(served)
    assert (await served.http.post(HOOKS, json={"url": URL})).status_code == 422
    assert (await served.http.post(HOOKS, json={"url": URL}, headers=OTHER)).status_code == 201


async def test_other_tenants_find_nothing(served: Served) -> None:
    path = f"{HOOKS}/{(await register(served))['id']}"
    event = (await served.http.post(f"{path}/test")).json()["id"]
    calls = (
        ("PATCH", path),
        ("DELETE", path),
        ("POST", f"{path}/rotate"),
        ("POST", f"{path}/test"),
        ("GET", f"{path}/deliveries"),
        ("POST", f"{path}/deliveries/{event}/replay"),
    )
    for method, call in calls:
        body = {} if method == "PATCH" else None
        answer = await served.http.request(method, call, json=body, headers=OTHER)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:alignx:problem:webhook_unknown"), call
    assert len((await served.http.get(f"{path}/deliveries")).json()["deliveries"]) == 1


class Vouched(httpx.AsyncBaseTransport):
    """Passes requests on as the gateway does: with the headers of `served`, not with the caller's key."""

    def __init__(self, served: Served) -> None:
        self.http = served.http

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = {"Content-Type": request.headers.get("Content-Type", "")}
        path, content = request.url.raw_path.decode(), await request.aread()
        answer = await self.http.request(request.method, path, content=content, headers=headers)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


async def test_every_call_of_the_sdk(redis_url: str) -> None:
    async with serving(redis_url) as served, AsyncAlignX("http://alignx", "k", transport=Vouched(served)) as alignx:
        created = await alignx.create_webhook(URL, events=["preferences.version"])
        (listed,) = (await alignx.webhooks()).webhooks
        assert (listed.id, listed.events) == (created.id, ("preferences.version",))
        assert (await alignx.change_webhook(created.id, WebhookChange(enabled=False))).disabled is not None
        rotated = await alignx.rotate_webhook(created.id, overlap_s=60)
        assert rotated.secret != created.secret
        queued = await alignx.test_webhook(created.id)
        (delivery,) = (await alignx.webhook_deliveries(created.id, limit=1)).deliveries
        assert (delivery.id, delivery.event.type) == (queued.id, "webhook.test")
        assert (await alignx.replay_webhook(created.id, delivery.id)).id == delivery.id
        await alignx.delete_webhook(created.id)
        with pytest.raises(ProblemError) as caught:
            await alignx.test_webhook(created.id)
        assert caught.value.code == "webhook_unknown"


async def test_a_version_by_hand_and_an_erasure_are_told(served: Served) -> None:
    path = f"{HOOKS}/{(await register(served))['id']}/deliveries"
    edited = await served.http.put("/v1/users/ada/preferences", json={"text": "I like tea."})
    assert edited.status_code == 200
    (told,) = (await served.http.get(path)).json()["deliveries"]
    assert told["event"]["type"] == "preferences.version"
    assert {name: value for name, value in told["event"]["data"].items() if value} == {"user": "ada", "version": 1}
    assert "tea" not in str(told)
    await served.http.post("/v1/erasures", json={"users": ["ada"]})
    (told,) = (await served.http.get(path)).json()["deliveries"]
    assert told["event"]["type"] == "user.erased"
