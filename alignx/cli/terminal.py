"""What every command of `alignx` works with: the service, the screen, and how an error is shown.

`Terminal` arrives in each command as the context's object. Tests give one with a transport of
their own; everything else is the same.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from alignx.client.client import AlignX
from alignx.client.errors import ClientError, ProblemError, Unreachable
from alignx.client.retry import RetryPolicy
from alignx.client.transport import DEFAULT_URL, key_from_environment

USER_KEY = Path("var/secrets/user_key")
"""Written by `make up`, below the checkout."""
ADMIN_KEY = Path("var/secrets/admin_key")

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that would steer the terminal instead of being read in it."""

HINTS = {
    "unauthenticated": "Set ALIGNX_API_KEY, or ALIGNX_KEY_FILE to a file that holds a key.",
    "forbidden": "Give an admin key with --key or ALIGNX_API_KEY.",
    "user_unknown": "Send some history first: alignx ingest FILE --user USER",
    "stale_version": "The summary was changed meanwhile; look at it again, then repeat.",
    "engine_unavailable": "Chat needs a language model engine; selection and ranking work without.",
    "no_engine": "Chat needs a language model engine; selection and ranking work without.",
}


def shown(text: str) -> str:
    """The text without control characters; what a model wrote must not steer the terminal."""
    return CONTROL.sub("", text)


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def new_console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False, soft_wrap=False)


@dataclass
class Terminal:
    """The connection's options and the two screens."""

    url: str | None = None
    key: str | None = None
    transport: httpx.BaseTransport | None = None
    sleep: Callable[[float], None] = time.sleep
    out: Console = field(default_factory=new_console)
    err: Console = field(default_factory=lambda: new_console(stderr=True))

    def client(self, *, admin: bool = False, anonymous: bool = False, retry: RetryPolicy | None = None) -> AlignX:
        """A client with the key that was found: option, environment, key file, `make up`'s file."""
        key = None if anonymous else (self.key or self._found_key(admin=admin))
        if key is None and not anonymous:
            raise typer.BadParameter(
                "no API key found; set ALIGNX_API_KEY, or ALIGNX_KEY_FILE to a file that holds one", param_hint="--key"
            )
        try:
            return AlignX(self.url, key, retry=retry, transport=self.transport, sleep=self.sleep)
        except ClientError as error:
            raise typer.BadParameter(str(error), param_hint="--url or --key") from error

    def _found_key(self, *, admin: bool) -> str | None:
        paths = (ADMIN_KEY, USER_KEY) if admin else (USER_KEY,)
        try:
            return key_from_environment() or next(
                (path.read_text(encoding="utf-8").strip() for path in paths if path.is_file()), None
            )
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"the key file cannot be read: {error}", param_hint="ALIGNX_KEY_FILE") from error

    def text(self, text: str, style: str = "") -> None:
        """A line or paragraph as it is: no markup is read in it."""
        self.out.print(Text(shown(text), style=style), soft_wrap=True)

    def note(self, text: str) -> None:
        """Something for the person at the screen, not for a pipe."""
        self.err.print(Text(shown(text), style="dim"), soft_wrap=True)

    def json(self, model: BaseModel) -> None:
        typer.echo(model.model_dump_json(indent=2))

    def fail(self, error: ClientError) -> None:
        """An error as a person reads it: the sentence, the fields, what to do, the request's id."""
        line = Text("error: ", style="bold red")
        line.append(shown(error.detail if isinstance(error, ProblemError) else str(error)), style="")
        self.err.print(line, soft_wrap=True)
        if isinstance(error, ProblemError):
            for problem in error.errors:
                self.err.print(Text(f"  {shown(problem.field)}: {shown(problem.message)}"))
            self.note(f"  {error.code}, {error.status}" + (f", request {error.request_id}" if error.request_id else ""))
            if error.code in HINTS:
                self.note(f"  {HINTS[error.code]}")
        elif isinstance(error, Unreachable):
            self.note(f"  Is the suite running? Start it with: make up. The URL is ALIGNX_URL or {DEFAULT_URL}.")


class ProblemGroup(TyperGroup):
    """The one place where a command's errors become words and an exit code: 1, or 2 for usage."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ClientError as error:
            (ctx.obj or Terminal()).fail(error)
            raise typer.Exit(1) from error
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            field_name = ".".join(str(part) for part in problem["loc"])
            raise typer.BadParameter(f"{field_name}: {problem['msg']}".removeprefix(": ")) from error
