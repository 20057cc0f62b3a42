"""Bodies with long lists: validated entry by entry, with the answers of a validation in one piece."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Header

from alignx.schemas.requests import CatalogueRequest, EventsRequest, RecommendRequest, RetryRequest, SelectRequest
from services.server import body_lists
from services.server.body_lists import ListRoute, Refused, find_lists
from tests.unit.services.server.test_app import app_with

pytestmark = pytest.mark.anyio
COUNT = 40
GOOD = [{"type": "statement", "text": f"I like {number}"} for number in range(COUNT)]
ITEMS: list[Any] = [{"id": number, "title": f"Item {number}", "brand": ["a", {"b": 1}]} for number in range(COUNT)]
router = APIRouter(route_class=ListRoute)


@router.post("/events/{number}")
async def append(number: int, body: EventsRequest, limit: Annotated[int, Header()] = 1) -> EventsRequest:
    return body


@router.post("/recommend")
async def recommend(body: RecommendRequest) -> RecommendRequest:
    return body


@router.post("/items")
async def put_items(body: CatalogueRequest) -> CatalogueRequest:
    return body


def changed(entries: list[Any], changes: dict[int, Any]) -> list[Any]:
    return [changes.get(index, entry) for index, entry in enumerate(entries)]


BODIES: dict[str, tuple[str, Any]] = {
    "valid events": ("/events/1", {"events": GOOD, "backfill": True}),
    "a typo": ("/events/1", {"events": changed(GOOD, {7: GOOD[7] | {"typo": 1}})}),
    "a typo, and a typo of the body": ("/events/1", {"events": changed(GOOD, {7: GOOD[7] | {"typo": 1}}), "more": 1}),
    "a wrong path, header and event": ("/events/one", {"events": changed(GOOD, {3: {"type": "nothing"}})}),
    "all invalid": ("/events/1", {"events": [{"type": "rating", "item": {"tile": 1}, "value": "x"}] * COUNT}),
    "no records": ("/events/1", {"events": [None, 1, "text", [], {}] * 8}),
    "the same entry twice": ("/events/1", {"events": changed(GOOD, {3: {}, 4: {}})}),
    "a field named as a type": ("/events/1", {"events": changed(GOOD, {5: {"type": "post", "post": 1}})}),
    "a shown item": ("/events/1", {"events": [{"type": "click", "clicked": "a", "shown": ["b", {"id": 3}]}] * COUNT}),
    "a document that is a list": ("/events/1", GOOD),
    "no list": ("/events/1", {"events": {"0": GOOD[0]}}),
    "valid candidates": ("/recommend", {"candidates": changed(ITEMS, {1: "a text", 2: {"id": 5}}), "k": 3}),
    "invalid candidates": ("/recommend", {"candidates": changed(ITEMS, {1: {"title": ""}, 2: 5, 9: {"id": []}})}),
    "too many candidates": ("/recommend", {"candidates": [*ITEMS, {"title": ""}] * 30, "k": 0}),
    "valid items": ("/items", {"items": ITEMS}),
    "items without an id": ("/items", {"items": changed(ITEMS, {4: {"title": "x"}, 5: {"id": "", "price": []}})}),
}


@asynccontextmanager
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = app_with(routes=lambda app: app.include_router(router))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        yield http


@pytest.mark.parametrize("name", BODIES)
async def test_the_answer_is_that_of_a_validation_in_one_piece(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, body = BODIES[name]
    answers = []
    async with client() as http:
        for few in (body_lists.FEW, 10_000):
            monkeypatch.setattr(body_lists, "FEW", few)
            answers.append(await http.post(path, json=body, headers={"X-Request-Id": "same", "limit": "one"}))
            answers.append(await http.post(path, json=body, headers={"X-Request-Id": "same"}))
    assert [answer.content for answer in answers[:2]] == [answer.content for answer in answers[2:]]
    assert [answer.status_code for answer in answers[:2]] == [answer.status_code for answer in answers[2:]]
    assert answers[1].status_code == (200 if name.startswith("valid") else 422)


async def test_entries_are_validated_before_the_whole() -> None:
    (events,) = find_lists(EventsRequest)
    document = {"events": [dict(event) for event in GOOD] + [{"type": "nothing"}]}
    await body_lists.validate_lists(document, [events])
    *valid, last = document["events"]
    assert valid == list(EventsRequest.model_validate({"events": GOOD}).events)
    assert isinstance(last, Refused)


def test_every_list_of_records_is_known() -> None:
    lists = {schema: [known.name for known in find_lists(schema)] for schema in (SelectRequest, RetryRequest)}
    assert lists == {SelectRequest: ["items"], RetryRequest: []}
