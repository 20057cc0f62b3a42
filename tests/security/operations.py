"""The calls of the API as /openapi.json tells them, and requests that fill them in.

A later route is therefore probed without a change here. A path parameter, a required query parameter or a pattern that
no name fits raises `CannotFill`, so that nobody adds a route past these tests.
"""

import json
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlencode

import httpx

JSON, JSON_LINES = "application/json", "application/jsonl"
METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
OPEN = {("get", "/livez"), ("get", "/readyz")}
"""The calls that need no key."""
BUSY_TRIES = 20
STREAM_S = 0.2
"""How long an event stream that does not end is read."""

Names = Mapping[str, Sequence[Any]]
"""Values by the name of a parameter or field; the first that its schema allows is sent."""


class CannotFill(Exception):
    """No name stands for a parameter: add it to the names of the caller."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None

    def with_headers(self, **more: str) -> "Request":
        return replace(self, headers={**self.headers, **{name.replace("_", "-"): text for name, text in more.items()}})

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: httpx.Headers
    text: str

    @property
    def everything(self) -> str:
        return "\n".join([self.text, *self.headers.values()])


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    path: str
    method: str
    details: Mapping[str, Any]
    document: "Document"

    def scopes(self, scheme: str) -> list[str]:
        """Those of the scheme "key" or "user_token"; empty where it does not open the call."""
        return [scope for entry in self.details.get("security", ()) for scope in entry.get(scheme, ())]

    def parameters(self, place: str) -> list[Mapping[str, Any]]:
        return [entry for entry in self.details.get("parameters", ()) if entry["in"] == place]

    @property
    def body(self) -> Mapping[str, Any] | None:
        """The schema of the body, of JSON or of lines of it."""
        content = self.details.get("requestBody", {}).get("content", {})
        if content and not content.keys() & {JSON, JSON_LINES}:
            raise CannotFill(f"{self.method} {self.path} takes {', '.join(content)}")
        return (content.get(JSON) or content[JSON_LINES])["schema"] if content else None

    @property
    def takes_lines(self) -> bool:
        return JSON_LINES in self.details.get("requestBody", {}).get("content", {})

    def fill_body(self, names: Names, dice: random.Random | None) -> bytes | None:
        if self.body is None:
            return None
        if not self.takes_lines:
            return json.dumps(self.document.sample(self.body, names, dice)).encode()
        if not names.get(self.path):  # the document tells such a line in words alone
            raise CannotFill(f"lines of {self.path}")
        return b"\n".join(json.dumps(line).encode() for line in names[self.path])

    def fill(self, names: Names, dice: random.Random | None = None) -> Request:
        """A request that the schemas allow: what is required and what `names` has; by `dice`, anything they allow."""
        path = self.path
        for name in re.findall(r"\{(\w+)\}", path):
            schema = next(entry["schema"] for entry in self.parameters("path") if entry["name"] == name)
            value = pick(self.document.resolve(schema), names.get(name, ()))
            if value is None:
                raise CannotFill(f"{name} of {self.path}")
            path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
        body = self.fill_body(names, dice)
        headers = {name: str(value) for name, value in self._optional("header", names, dice)}
        if body is not None:
            headers["Content-Type"] = JSON_LINES if self.takes_lines else JSON
        return Request(self.method, path, dict(self._optional("query", names, dice)), headers, body)

    def _optional(self, place: str, names: Names, dice: random.Random | None) -> Iterator[tuple[str, Any]]:
        for entry in self.parameters(place):
            name, schema = entry["name"], self.document.resolve(entry["schema"])
            if (value := pick(schema, names.get(name, ()))) is not None:
                yield name, value
            elif entry.get("required"):
                raise CannotFill(f"{name} of {self.path}")
            elif dice and dice.random() < 0.3 and (value := self.document.sample(schema, names, dice)) is not None:
                yield name, value


class Document:
    """An OpenAPI document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self.operations = [
            Operation(path, method, details, self)
            for path, methods in document["paths"].items()
            for method, details in methods.items()
            if method in METHODS
        ]

    @classmethod
    def of(cls, url: str) -> "Document":
        answer = httpx.get(f"{url}/openapi.json")
        assert answer.status_code == 200, answer.text
        return cls(answer.json())

    @property
    def paths(self) -> Mapping[str, Operation]:
        """An operation of each path."""
        return {operation.path: operation for operation in self.operations}

    def resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in schema:
            found: Any = self._document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return schema

    def sample(self, schema: Mapping[str, Any], names: Names, dice: random.Random | None = None) -> Any:
        """A value that the schema allows: the smallest, or any by `dice`."""
        schema = self.resolve(schema)
        for form in ("anyOf", "oneOf"):
            if form in schema:
                forms = [self.resolve(one) for one in schema[form]]
                forms = [one for one in forms if one.get("type") != "null"] if dice is None else forms
                return self.sample(dice.choice(forms) if dice else forms[0], names, dice)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return dice.choice(schema["enum"]) if dice else schema["enum"][0]
        match schema.get("type", "object"):
            case "object":
                return self._object(schema, names, dice)
            case "array":
                low = schema.get("minItems", 0)
                count = min(schema.get("maxItems", 4), low + dice.randint(0, 3)) if dice else low
                return [self.sample(schema.get("items", {}), names, dice) for _ in range(count)]
            case kind:
                return _scalar(kind, schema, dice)

    def _object(self, schema: Mapping[str, Any], names: Names, dice: random.Random | None) -> dict[str, Any]:
        value = {}
        for name, inner in schema.get("properties", {}).items():
            resolved = self.resolve(inner)
            if (known := self.pick(resolved, names.get(name, ()))) is not None:
                value[name] = known
            elif "const" in resolved or name in schema.get("required", ()) or (dice and dice.random() < 0.4):
                value[name] = self.sample(inner, names, dice)
        return value

    def pick(self, schema: Mapping[str, Any], values: Sequence[Any]) -> Any:
        """As the function, also where the schema is a choice of several."""
        forms = [self.resolve(form) for form in schema.get("anyOf", ())] or [schema]
        return next((found for form in forms if (found := pick(form, values)) is not None), None)


def pick(schema: Mapping[str, Any], values: Sequence[Any]) -> Any:
    """The first of the values that a schema allows, by its type and pattern; None for none."""
    kinds = {"string": str, "integer": int, "array": list, "object": dict, "number": (int, float), "boolean": bool}
    forms = schema.get("anyOf") or [schema]
    for value in values:
        for form in forms:
            if isinstance(value, kinds.get(form.get("type", ""), ())) and (
                "pattern" not in form or re.search(form["pattern"], str(value))
            ):
                return value
    return None


def _scalar(kind: str, schema: Mapping[str, Any], dice: random.Random | None) -> Any:
    low, high = schema.get("minimum", 1), schema.get("maximum", 5)
    match kind:
        case "boolean":
            return dice.random() < 0.5 if dice else False
        case "integer":
            return dice.randint(int(low), int(max(low, high))) if dice else int(low)
        case "number":
            return round(dice.uniform(low, max(low, high)), 3) if dice else max(3, low)
        case "null":
            return None
        case "string" if schema.get("format") == "date-time":
            return f"20{dice.randint(10, 60)}-02-03T04:05:06Z" if dice else "2031-02-03T04:05:06Z"
        case "string" if pattern := schema.get("pattern"):
            return _matching(pattern)
        case "string":
            text = "tea and " * (dice.randint(0, 6) if dice else 0) + "milk"
            return text.ljust(schema.get("minLength", 0), "k")[: schema.get("maxLength")]
    raise CannotFill(f"a value of type {kind}")


def _matching(pattern: str) -> str:
    for text in ("tea", "json", "170-1", "teatime", "https://tea.example", "0" * 32):
        if re.search(pattern, text):
            return text
    raise CannotFill(f"a text of the pattern {pattern}")


def send(client: httpx.Client, request: Request) -> Answer:
    """The answer; where the machine is too busy for one, that of the next try, as a client does."""
    answer = _send_once(client, request)
    for _ in range(BUSY_TRIES):
        if answer.status != 503 or "overloaded" not in answer.text:
            break
        time.sleep(1)
        answer = _send_once(client, request)
    return answer


def _send_once(client: httpx.Client, request: Request) -> Answer:
    """The answer, or as much of a stream as comes within `STREAM_S`. The path is sent byte by byte as it is."""
    is_stream = request.path.endswith("/stream")
    query = f"?{urlencode(request.params, doseq=True)}" if request.params else ""
    built = client.build_request(
        request.method.upper(),
        "/",
        headers=[(name.encode(), text.encode("utf-8", "surrogateescape")) for name, text in request.headers.items()],
        content=request.content,
        timeout=httpx.Timeout(30, read=STREAM_S if is_stream else 30),
        extensions={"target": f"{request.path}{query}".encode("utf-8", "surrogateescape")},
    )
    parts: list[bytes] = []
    answer = client.send(built, stream=True)
    try:
        parts.extend(answer.iter_raw())
    except httpx.ReadTimeout:
        if not is_stream:
            raise
    finally:
        answer.close()
    return Answer(answer.status_code, answer.headers, b"".join(parts).decode("utf-8", "replace"))
