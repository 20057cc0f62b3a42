"""Generated requests that no client means to send: each answer must be one of the API's own.

    python -m tests.security.run --only fuzz --requests 5000 --seed 7

A request begins as one that the OpenAPI document allows, and up to three faults are put in. The generator is our own
because one `random.Random` replays a run, and no library of the lock knows our limits, duplicate keys or bad encodings.
"""

import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from alignx.schemas.tenants import SCOPES
from services.errors import ANTHROPIC_PATHS, OPENAI_PATHS
from services.server.app import PROBLEM_JSON
from tests.live.suite import SERVICES, Suite
from tests.security.histories import USER
from tests.security.operations import Answer, Document, Names, Operation, Request, send

USERS = 8
NAMES: Names = {
    **{name: [1] for name in ("version", "from", "to")},
    "key_id": ["teatime"],
    "tenant": ["other"],
    "model": ["mock"],
    "event_id": ["1-0"],
    "webhook": [f"wh_{0:016}"],
    "delivery": [f"msg_{0:032}"],
}
STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**40, 1e308, -1e-320, 0.1, "", " ", "\u0000", "a\u0000b"),
    *("\ud800", "\udfff tea \ud83d", "\u202etea", "\u200b", "\ufeff", "e\u0301" * 50, "tea\r\nX-Forged: 1", "%00"),
    *("../../etc/passwd", "${jndi:ldap://x}", "{{7*7}}", "'; DROP TABLE users; --", "NaN", "Infinity", "1e5", "true"),
    *("null", "[]", "{}", "x" * 300, "x" * 70_000, "\U0001f600" * 500, "2031-02-30T25:61:00Z", "0000-01-01"),
    *("-271821-04-20T00:00:00Z", [], {}, [[]], [None], {"": ""}, {"a": {"b": {}}}, [1, "a", None, {}]),
    *({"type": "statement"}, {"$ref": "#"}, {"__proto__": {}}),
)
"""Values in place of one."""
RAW = (
    *(b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-0", b"01", b"'a'", b'"\\x"', b'"\\ud800"', b"undefined"),
    *(b"\xff", b'"\xed\xa0\x80"', b'"\x01"', b"1" * 5_000, b"[" * 200 + b"]" * 200, b'{"a":' * 300 + b"1" + b"}" * 300),
)
"""JSON, or nearly, that no serializer writes."""
_ERROR = re.compile(r'"level":"(?:ERROR|CRITICAL)"|"exception":|Traceback')
SETTLED_WITHIN_S = 40.0
_PLACE = "place-of-a-raw-value"
TYPES = (
    *(
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/xml",
        "",
        "a/b; charset=x",
    ),
    *("application/json; charset=utf-16", "application/json;charset=latin-1", "APPLICATION/JSON"),
)
FIELDS = (
    *("Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID", "Prefer", "X-User-Id", "Content-Encoding"),
    *("Accept", "X-AlignX-Tenant", "X-AlignX-User", "Range", "traceparent"),
)
FIELD_TEXTS = (
    *("", "x", "*", '"3"', 'W/"999999999999999999999"', "\u00e9\u00e9", "\udcff", "wait=1e9", "wait=-1", "wait=nan"),
    *("gzip", "9" * 400, "-1", "0-0", "1-", "a, b", '"', "y" * 4_000, "a\tb", "bytes=0-"),
)
SEGMENTS = (
    *("%00", "%2e%2e", "..", "%2F", "%ff", "%C3%28", "%ED%A0%80", "a" * 300, "%20", "~", "%F0%9F%98%80", "0", "-1"),
    *("9" * 30, "1.5", "ada%0d%0aX:1", "%", "%zz", ";x=1", "@", "*", "ada?x", "__proto__"),
)


@dataclass
class Fuzzed:
    """How a run of generated requests was answered."""

    seed: int
    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    """Problems by their code."""
    broken: list[str] = field(default_factory=list)
    """A status from 500 on other than 501 and 503, or a connection that was cut."""
    shapeless: list[str] = field(default_factory=list)
    """Errors that are no problem document, nor OpenAI's on its paths, or name neither field nor limit."""
    unhealthy: list[str] = field(default_factory=list)
    """Processes that ended, are not ready or logged an error, and events that no update takes."""


def fuzz(suite: Suite, count: int, seed: int) -> Fuzzed:
    """Sends `count` requests; the same seed gives the same ones."""
    document, dice, found = Document.of(suite.url), random.Random(seed), Fuzzed(seed)
    key = suite.new_key("fuzzed", scopes=list(SCOPES))
    headers = {"Authorization": f"Bearer {key}"}
    operations = document.operations
    read = {name: len(suite.log(name)) for name in SERVICES}
    with httpx.Client(base_url=suite.url, headers=headers) as client:
        generated = [generate(operations[number % len(operations)], dice) for number in range(count)]
        for number, request in enumerate((*_beyond_limits(), *generated)):
            if number % 100 == 0:  # some have been erased
                _write_histories(client)
            try:
                answer = send(client, request)
            except httpx.LocalProtocolError:
                continue  # our own client does not send it
            except httpx.HTTPError as error:
                found.broken.append(f"{_show(request)}: {type(error).__name__} {error}")
                continue
            found.requests += 1
            _judge(found, request, answer)
        _check_processes(suite, client, read, found)
    return found


Fault = Callable[[Request, random.Random], Request]


def generate(operation: Operation, dice: random.Random) -> Request:
    """A request with none to three faults."""
    user = f"{USER}-{dice.randrange(USERS)}"
    lines = [{"user": user, "events": [{"type": "statement", "text": "I drink milk."}]}]
    request = operation.fill({**NAMES, "user": [user], "/v1/events": lines}, dice)
    faults: list[Fault] = [_bend_path, *[_bend_query] * 3, *[_bend_header] * 2]
    if request.content is not None:
        faults += [_bend_value] * 14 + [_bend_bytes] * 4 + [_bend_type]
    for _ in range(dice.choice((0, 1, 1, 1, 2, 3))):
        request = dice.choice(faults)(request, dice)
    return request


def _write_histories(client: httpx.Client) -> None:
    for user in range(USERS):
        body = {"events": [{"type": "statement", "text": "I like tea."}]}
        answer = client.post(f"/v1/users/{USER}-{user}/events", json=body)
        assert answer.status_code == 202, answer.text


def _beyond_limits() -> Iterator[Request]:
    """A body, a header, lines of headers and a path that are each longer than what is taken."""
    path = f"/v1/users/{USER}/select"
    kind = {"Content-Type": "application/json"}
    yield Request("post", path, headers=kind, content=b'{"items": [' + b" " * (1 << 25) + b"]}")
    yield Request("post", path, headers=kind | {"X-Long": "x" * (1 << 16)}, content=b"{}")
    yield Request("post", path, headers=kind | {f"X-Line-{number}": "x" for number in range(200)}, content=b"{}")
    yield Request("get", f"/v1/users/{'x' * (1 << 16)}/preferences")


# --- faults -------------------------------------------------------------------------------------


def _bend_value(request: Request, dice: random.Random) -> Request:
    """One value of the body is another, is missing, stands twice, is too deep, too long, or strange."""
    try:
        body = json.loads(request.content or b"")
    except (ValueError, RecursionError):
        return request  # bent already
    places = list(_places(body))
    if not places:
        return replace(request, content=_dump(dice.choice(STRANGE)))
    holder, name = dice.choice(places)
    match dice.randrange(8):
        case 0:
            del holder[name]
        case 1:
            holder[name] = _deep(dice.choice((10, 17, 130, 2_000)), dice)
        case 2:
            return _put_raw(request, body, holder, name, dice.choice(RAW))
        case 3 if isinstance(holder, dict):
            holder[dice.choice(("extra", "", "\u0000", "__class__", "id", "type", "x" * 2_000))] = dice.choice(STRANGE)
        case 4 if isinstance(holder, dict):
            text = _dump(body)
            twice = _dump(name) + b": " + _dump(dice.choice(STRANGE)) + b", "
            return replace(request, content=text.replace(_dump(name) + b": ", twice + _dump(name) + b": ", 1))
        case 5:
            holder[name] = [holder[name]] * dice.choice((2, 27, 201, 1_001))
        case _:
            holder[name] = dice.choice(STRANGE)
    return replace(request, content=_dump(body))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each member of each object and list, as holder and name."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in list(pairs):
        yield value, name
        yield from _places(inner)


def _put_raw(request: Request, body: Any, holder: Any, name: Any, raw: bytes) -> Request:
    holder[name] = _PLACE
    return replace(request, content=_dump(body).replace(f'"{_PLACE}"'.encode(), raw, 1))


def _deep(levels: int, dice: random.Random) -> Any:
    value: Any = "deep"
    is_list = dice.random() < 0.5
    for _ in range(min(levels, 800)):  # json.dumps goes no deeper
        value = [value] if is_list else {"a": value}
    return value


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def _bend_bytes(request: Request, dice: random.Random) -> Request:
    """The body's bytes are cut, mixed, encoded otherwise, or something else."""
    body = request.content or b""
    match dice.randrange(8):
        case 0:
            body = body[: dice.randrange(len(body) + 1)]
        case 1:
            place = dice.randrange(len(body) + 1)
            body = body[:place] + bytes(dice.randrange(256) for _ in range(3)) + body[place:]
        case 2:
            body = body.decode("utf-8", "replace").encode("utf-16")
        case 3:
            body = b"\xef\xbb\xbf" + body
        case 4:
            body = b""
        case 5:
            body = b"[" * 100_000
        case 6:
            body += body
        case _:
            body = dice.choice(RAW)
    return replace(request, content=body)


def _bend_type(request: Request, dice: random.Random) -> Request:
    return request.with_headers(Content_Type=dice.choice(TYPES))


def _bend_header(request: Request, dice: random.Random) -> Request:
    return replace(request, headers={**request.headers, dice.choice(FIELDS): dice.choice(FIELD_TEXTS)})


def _bend_query(request: Request, dice: random.Random) -> Request:
    params = dict(request.params)
    name = dice.choice([*params, "limit", "after", "before", "from", "format", "tenant", "user", "unknown"])
    value = dice.choice(
        [value for value in STRANGE if isinstance(value, (str, int, float)) and len(str(value)) < 5_000]
    )
    params[name] = [str(value).encode("utf-8", "surrogatepass")] * dice.choice((1, 1, 2))
    return replace(request, params=params)


def _bend_path(request: Request, dice: random.Random) -> Request:
    parts = request.path.split("/")
    parts[dice.randrange(1, len(parts))] = dice.choice(SEGMENTS)
    return replace(request, path="/".join(parts))


# --- answers ------------------------------------------------------------------------------------


def _judge(found: Fuzzed, request: Request, answer: Answer) -> None:
    found.statuses[answer.status] += 1
    if answer.status < 400 or request.method == "head":
        return
    if answer.status >= 500 and answer.status not in (501, 503):
        found.broken.append(f"{_show(request)}: {answer.status} {answer.text[:300]}")
    if fault := find_fault(request.path, answer):
        found.shapeless.append(f"{_show(request)}: {answer.status} {fault}: {answer.text[:300]}")
    else:
        found.codes[_code(answer)] += 1


def find_fault(path: str, answer: Answer) -> str:
    """What is wrong with the form of an error; empty for nothing."""
    try:
        document = json.loads(answer.text)
    except ValueError:
        return "no JSON"
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if path.startswith(OPENAI_PATHS) and kind == "application/json":
        error = document.get("error", {})
        return "" if {"message", "type", "param", "code"} <= error.keys() and error["message"] else "not OpenAI's shape"
    if path.startswith(ANTHROPIC_PATHS) and kind == "application/json":
        error = document.get("error", {})
        return "" if document.get("type") == "error" and error.get("message") else "not Anthropic's shape"
    if kind != PROBLEM_JSON:
        return f"content type {kind}"
    if not {"type", "title", "status", "detail"} <= document.keys() or document["status"] != answer.status:
        return "no problem document"
    if answer.status == 422 and not any(document.get(name) for name in ("errors", "limit")):
        return "names no field"
    if answer.status in (413, 431) and not any(letter.isdigit() for letter in document["detail"]):
        return "names no limit"
    return ""


def _code(answer: Answer) -> str:
    document = json.loads(answer.text)
    if "error" in document:
        return str(document["error"].get("code") or document["error"]["type"])
    return str(document["type"].rpartition(":")[2])


def _check_processes(suite: Suite, client: httpx.Client, read: Mapping[str, int], found: Fuzzed) -> None:
    """Whether each process is ready, has logged no error behind the first `read` characters, and has no work left."""
    suite.wait_ready(SERVICES)  # raises for one that ended
    for name in SERVICES:
        lines = suite.log(name)[read[name] :].splitlines()
        found.unhealthy += [f"{name} logged {line[:600]}" for line in lines if _ERROR.search(line)]
    deadline = time.monotonic() + SETTLED_WITHIN_S
    for user in range(USERS):
        path = f"/v1/users/{USER}-{user}/preferences"
        while (current := client.get(path).json()).get("pending") and time.monotonic() < deadline:
            time.sleep(0.2)
        if current.get("pending"):
            found.unhealthy.append(f"{current['pending']} events wait for {current['waiting_for']}")


def _show(request: Request) -> str:
    body = (request.content or b"")[:200]
    return f"{request} {dict(request.params)!r:.200} {dict(request.headers)!r:.200} {body!r}"
