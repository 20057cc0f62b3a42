"""Validates the entries of a body's lists one by one, while the loop answers others.

FastAPI validates a body in one call, which for a thousand events keeps the loop from all else. The entries that are
valid are in their place as records by then, and pass as they are. One that is not stands there as `Refused`, which
is refused again; `ListRoute` puts the problems of the entry in place of that.
"""

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

from annotated_types import MaxLen
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.types import Receive, Scope

from services.server.app import cost_header
from services.server.request_bodies import JsonRequest, JsonRoute, invalid_request
from services.slices import run_in_slices

Body = TypeVar("Body", bound=BaseModel)
FEW: Final = 16
"""Entries that FastAPI validates as they came."""
EVENTS_OF_ONE: Final = 10
_ITEMS_OF_ONE: Final = 50
"""Entries of a list that take the time of one request."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry that is not valid."""

    raw: Any
    problems: Sequence[Mapping[str, Any]]
    """As pydantic gives them, their paths within the entry."""


@dataclass(frozen=True, slots=True)
class BodyList:
    """A field of a body: a list of records."""

    name: str
    most: int | None
    """Entries that the schema allows."""
    entry: TypeAdapter[Any]

    def cost(self, entries: int) -> float:
        """As how many requests so many entries count."""
        return entries / (EVENTS_OF_ONE if self.name == "events" else _ITEMS_OF_ONE)

    def steps(self, entries: list[Any]) -> Iterator[None]:
        """Validates the entries in place, one at each step."""
        for index, raw in enumerate(entries):
            try:
                value = self.entry.validate_python(raw, from_attributes=True)
            except ValidationError as error:
                entries[index] = Refused(raw, error.errors(include_url=False, include_input=False))
            else:
                if isinstance(value, BaseModel):
                    entries[index] = value
            yield


class ListRequest(JsonRequest):
    """Validates the entries of the body's `lists` as it reads it."""

    def __init__(self, scope: Scope, receive: Receive, lists: Sequence[BodyList]) -> None:
        super().__init__(scope, receive)
        self._lists = lists

    async def json(self) -> Any:
        document = await super().json()
        self.scope["state"]["cost"] = await validate_lists(document, self._lists)
        return document


class ListRoute(JsonRoute):
    """Route class of services whose bodies hold long lists."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        self._lists = find_lists(self.body_field.field_info.annotation) if self.body_field else ()
        handle = super().get_route_handler()

        async def with_problems_of_entries(request: Request) -> Response:
            try:
                response = await handle(request)
            except RequestValidationError as error:
                problems = list(expand_problems(error.errors(), error.body))
                raise RequestValidationError(problems, body=_restore(error.body)) from error
            response.headers.update(cost_header(request.scope))
            return response

        return with_problems_of_entries

    def open_request(self, request: Request) -> JsonRequest:
        return ListRequest(request.scope, request.receive, self._lists)


def find_lists(body: object) -> tuple[BodyList, ...]:
    """The lists of records that a schema has."""
    if not (isinstance(body, type) and issubclass(body, BaseModel)):
        return ()
    found = []
    for name, field in body.model_fields.items():
        kinds = get_args(field.annotation)
        if get_origin(field.annotation) is tuple and kinds[1:] == (...,) and _has_record(kinds[0]):
            most = next((rule.max_length for rule in field.metadata if isinstance(rule, MaxLen)), None)
            found.append(BodyList(field.alias or name, most, entry := TypeAdapter(kinds[0])))
            assert not _is_valid(entry, Refused(None, ())), f"{name}: entries need a required field"
    return tuple(found)


def _is_valid(entry: TypeAdapter[Any], value: object) -> bool:
    try:
        entry.validate_python(value, from_attributes=True)
    except ValidationError:
        return False
    return True


def _has_record(kind: Any) -> bool:
    if isinstance(kind, type):
        return issubclass(kind, BaseModel)
    parts = get_args(kind)
    return any(map(_has_record, parts[:1] if get_origin(kind) is Annotated else parts))


async def validate_lists(document: Any, lists: Sequence[BodyList]) -> float:
    """Puts the long lists' valid records into the document of a body; returns as how many requests they count."""
    cost = 0.0
    for known in lists if isinstance(document, dict) else ():
        entries = document.get(known.name)
        if isinstance(entries, list) and FEW < len(entries) <= (known.most or len(entries)):
            await run_in_slices(known.steps(entries))
            cost += known.cost(len(entries))
    return cost


async def validate_document(model: type[Body], document: Any, lists: Sequence[BodyList]) -> tuple[Body, float]:
    """The record of a parsed body, and as how many requests its long lists count. Raises InvalidRequest."""
    cost = await validate_lists(document, lists)
    try:
        return model.model_validate(document), cost
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        own = expand_problems([{**problem, "loc": ("body", *problem["loc"])} for problem in problems], document)
        raise invalid_request(RequestValidationError(list(own), body=_restore(document))) from error


def expand_problems(problems: Sequence[Mapping[str, Any]], body: Any) -> Iterator[Mapping[str, Any]]:
    """The problems of a request, in place of those of each `Refused` entry its own."""
    last: Refused | None = None
    for problem in problems:
        path = problem["loc"]
        entry = body[path[1]][path[2]] if _is_in_list(path, body) else None
        if not isinstance(entry, Refused):
            yield problem
        elif entry is not last:
            yield from ({**own, "loc": (*path[:3], *own["loc"])} for own in entry.problems)
        last = entry if isinstance(entry, Refused) else None


def _is_in_list(path: Sequence[str | int], body: Any) -> bool:
    return path[0] == "body" and len(path) > 2 and isinstance(body, dict) and isinstance(body.get(path[1]), list)


def _restore(body: Any) -> Any:
    """The body with refused entries as they came."""
    if not isinstance(body, dict):
        return body
    return {name: _restore_entries(value) if isinstance(value, list) else value for name, value in body.items()}


def _restore_entries(entries: list[Any]) -> list[Any]:
    return [entry.raw if isinstance(entry, Refused) else entry for entry in entries]
