"""What every command of `alignx` shares: the client, the screen, and how an error is shown.

`Terminal` arrives in each command as the context's object. Tests make one with a transport of
their own; everything else is the same.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import httpx
import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console, RenderableType
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from alignx.client.client import AlignX
from alignx.client.errors import ClientError, ProblemError, Unreachable
from alignx.client.retry import RetryPolicy
from alignx.client.transport import DEFAULT_URL, key_from_environment

C = TypeVar("C", bound=str)

User = Annotated[str, typer.Argument(help="The user's id.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]

USER_KEY = Path("var/secrets/user_key")
"""Written by `make up`, below the checkout."""
KEY_FILES = {"user": (USER_KEY,), "admin": (Path("var/secrets/admin_key"), USER_KEY)}
Role = Literal["user", "admin", "anonymous"]

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that a terminal obeys instead of showing them."""

NO_ENGINE = "Chat needs a language model engine; selection and ranking work without."
HINTS = {
    "unauthenticated": "Set ALIGNX_API_KEY, or ALIGNX_KEY_FILE to a file that holds a key.",
    "forbidden": "Give a key that has the scope with --key or ALIGNX_API_KEY; an admin key for keys and tenants.",
    "credential_expired": "Rotate the key with a new --expires, or mint a new token.",
    "user_unknown": "Send some history first: alignx ingest FILE --user USER",
    "stale_version": "The summary was changed meanwhile; look at it again, then repeat.",
    "engine_unavailable": NO_ENGINE,
    "no_engine": NO_ENGINE,
}


def sanitize(text: str) -> str:
    """The text without control characters; what a model wrote must not steer the terminal."""
    return CONTROL.sub("", text)


def pluralize(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def choose(known: tuple[C, ...], texts: Sequence[str]) -> tuple[C, ...]:
    """The texts, each of which must be one of the known ones."""
    if strange := [text for text in texts if text not in known]:
        raise typer.BadParameter(f"{strange[0]!r} is none of {', '.join(known)}")
    return tuple(word for text in texts for word in known if word == text)


def read_text(file: Path) -> str:
    """A file of UTF-8, without its byte order mark and with each line end as a newline. Raises BadParameter."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + error.object.count(b"\n", 0, error.start)
        raise typer.BadParameter(f"{file}, line {line}: the file is not UTF-8") from error


def create_console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False)


@dataclass
class Terminal:
    """The connection's options and the two screens."""

    url: str | None = None
    key: str | None = None
    transport: httpx.BaseTransport | None = None
    sleep: Callable[[float], None] = time.sleep
    out: Console = field(default_factory=create_console)
    err: Console = field(default_factory=lambda: create_console(stderr=True))

    def client(self, role: Role = "user", *, retry: RetryPolicy | None = None) -> AlignX:
        """A client with the first key there is: option, environment, key file, a file of `make up`."""
        key = None if role == "anonymous" else self.key or _find_key(KEY_FILES[role])
        if key is None and role != "anonymous":
            raise typer.BadParameter(
                "no API key found; set ALIGNX_API_KEY, or ALIGNX_KEY_FILE to a file that holds one", param_hint="--key"
            )
        try:
            return AlignX(self.url, key, retry=retry, transport=self.transport, sleep=self.sleep)
        except ClientError as error:
            raise typer.BadParameter(str(error), param_hint="--url or --key") from error

    def text(self, text: str, style: str = "") -> None:
        """Prints a line or paragraph as it is: no markup is read in it."""
        self.out.print(Text(sanitize(text), style=style), soft_wrap=True)

    def note(self, text: str) -> None:
        """Prints something for the person at the screen, not for a pipe."""
        self.err.print(Text(sanitize(text), style="dim"), soft_wrap=True)

    def answer(self, model: BaseModel, rendered: RenderableType, *, as_json: bool) -> None:
        """Prints what the API answered: for a person, or for machines."""
        if as_json:
            self.json(model)
        else:
            self.out.print(rendered)

    def json(self, model: BaseModel) -> None:
        typer.echo(model.model_dump_json(indent=2))

    def secret(self, model: BaseModel, text: str, note: str, *, as_json: bool) -> None:
        """Prints a new secret for a pipe and the note for a person, or the whole answer for machines."""
        if as_json:
            self.json(model)
        else:
            typer.echo(text)
            self.note(note)

    def fail(self, error: ClientError) -> None:
        """Prints an error: the sentence, the fields, what to do, the request's id."""
        line = Text("error: ", style="bold red")
        line.append(sanitize(error.detail if isinstance(error, ProblemError) else str(error)), style="")
        self.err.print(line, soft_wrap=True)
        if isinstance(error, ProblemError):
            for problem in error.errors:
                self.err.print(Text(sanitize(f"  {problem.field}: {problem.message}")))
            self.note(f"  {error.code}, {error.status}" + (f", request {error.request_id}" if error.request_id else ""))
            if error.code in HINTS:
                self.note(f"  {HINTS[error.code]}")
        elif isinstance(error, Unreachable):
            self.note(f"  Is the suite running? Start it with: make up. The URL is ALIGNX_URL or {DEFAULT_URL}.")


def _find_key(paths: tuple[Path, ...]) -> str | None:
    try:
        return key_from_environment() or next(
            (path.read_text(encoding="utf-8-sig").strip() for path in paths if path.is_file()), None
        )
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"the key file cannot be read: {error}", param_hint="ALIGNX_KEY_FILE") from error


@contextmanager
def exit_on_problem(ctx: Any) -> Iterator[None]:
    """The one place where a command's errors become words and an exit code: 1, or 2 for usage."""
    try:
        yield
    except ClientError as error:
        (ctx.obj or Terminal()).fail(error)
        raise typer.Exit(1) from error
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in problem["loc"])
        raise typer.BadParameter(f"{name}: {problem['msg']}".removeprefix(": ")) from error


class ProblemGroup(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        with exit_on_problem(ctx):
            return super().invoke(ctx)


class ProblemCommand(TyperCommand):
    def invoke(self, ctx: Any) -> Any:
        with exit_on_problem(ctx):
            return super().invoke(ctx)
