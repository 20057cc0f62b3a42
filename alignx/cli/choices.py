"""The commands of `alignx` that answer for a user: chat, select, recommend; and the catalogue."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError
from rich.table import Table

from alignx.cli import display
from alignx.cli.terminal import Json, ProblemGroup, Terminal, User, pluralize, read_text, sanitize
from alignx.client.client import AlignX
from alignx.client.retry import RetryPolicy
from alignx.schemas.items import CatalogueItem, OfferedItem
from alignx.schemas.requests import ChatMode, Method, RecommendResponse, SelectResponse

app = typer.Typer(cls=ProblemGroup)

ITEM: TypeAdapter[OfferedItem] = TypeAdapter(OfferedItem)
CATALOGUE_ITEM: TypeAdapter[CatalogueItem] = TypeAdapter(CatalogueItem)
_AT_ONCE = 1_000
"""Items of one call."""

ItemTexts = Annotated[list[str] | None, typer.Argument(help="Items as texts.", show_default=False)]
ItemFile = Annotated[
    Path | None,
    typer.Option("--file", "-f", exists=True, dir_okay=False, help="Items, one a line: a text, or a JSON object."),
]
Scorer = Annotated[Method | None, typer.Option(help="Who scores. Default: both, where an engine answers.")]


@app.command()
def chat(
    ctx: typer.Context,
    user: User,
    message: Annotated[str | None, typer.Argument(help="The question; '-' reads it from standard input.")] = None,
    mode: Annotated[ChatMode, typer.Option(help="What the answer is conditioned on.")] = "summary",
    max_history: Annotated[int | None, typer.Option(min=1, help="Modes ica, pba and direct: most events read.")] = None,
    learn: Annotated[
        bool | None, typer.Option("--learn/--no-learn", help="Add what is said to the history. Default: the tenant's.")
    ] = None,
) -> None:
    """Asks for an answer that suits the user; without a message, a conversation.

    Examples:

        alignx chat ada "What should I read tonight?"

        alignx chat ada --mode none

        alignx chat ada --learn

        cat question.txt | alignx chat ada -
    """
    terminal: Terminal = ctx.obj
    # A person waits: one retry, and then the reason.
    with terminal.client(retry=RetryPolicy(retries=1)) as client:
        conversation = Conversation(terminal, client, user, {"mode": mode, "max_history": max_history, "learn": learn})
        if message is not None:
            conversation.say(sys.stdin.read() if message == "-" else message)
            return
        terminal.note(f"Talking as {user}, mode {mode}. An empty line or Ctrl-D ends it.")
        while line := _read_line(terminal):
            conversation.say(line)


@dataclass
class Conversation:
    terminal: Terminal
    client: AlignX
    user: str
    personalization: dict[str, Any]
    """Arguments of each chat."""
    turns: list[dict[str, str]] = field(default_factory=list)

    def say(self, message: str) -> None:
        """Streams the answer to the screen."""
        turns = [*self.turns, {"role": "user", "content": message}]
        answer, used = "", None
        for chunk in self.client.stream_chat(turns, user=self.user, **self.personalization):
            used = chunk.personalization or used
            answer += chunk.text
            typer.echo(sanitize(chunk.text), nl=False)
        typer.echo()
        if used is not None:
            version = "" if used.version is None else f", summary version {used.version}"
            self.terminal.note(f"({used.mode}{version}{', learned' if used.learn else ''})")
        self.turns = [*turns, {"role": "assistant", "content": answer}]


def _read_line(terminal: Terminal) -> str:
    try:
        return terminal.err.input("> ").strip()
    except EOFError:
        return ""


@app.command()
def select(
    ctx: typer.Context,
    user: User,
    items: ItemTexts = None,
    file: ItemFile = None,
    query: Annotated[str, typer.Option("--query", "-q", help="What the items answer.")] = "",
    method: Scorer = None,
    as_json: Json = False,
) -> None:
    """Shows which of 2 to 26 items the user would choose.

    Examples:

        alignx select ada "A short joke" "A worked derivation" --query "Why is the sky blue?"

        alignx select ada --file answers.jsonl --json
    """
    terminal: Terminal = ctx.obj
    options = read_items(items, file)
    with terminal.client() as client:
        answer = client.select(user, options, query=query, method=method)
    _print(terminal, answer, display.selection(answer, options), as_json=as_json)


@app.command()
def recommend(
    ctx: typer.Context,
    user: User,
    items: ItemTexts = None,
    file: ItemFile = None,
    query: Annotated[str, typer.Option("--query", "-q", help="What is looked for.")] = "",
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How many to show.")] = 10,
    method: Scorer = None,
    explain: Annotated[bool, typer.Option(help="Add a reason in words to each.")] = False,
    as_json: Json = False,
) -> None:
    """Ranks candidates for the user, best first.

    Examples:

        alignx recommend ada "Night trains return" "Derby ends in a draw" -k 1

        alignx recommend ada --file catalogue.jsonl --query "rain jacket" --explain
    """
    terminal: Terminal = ctx.obj
    candidates = read_items(items, file)
    with terminal.client() as client:
        answer = client.recommend(user, candidates, query=query, k=k, method=method, explain=explain)
    _print(terminal, answer, display.ranking(answer, candidates), as_json=as_json)


@app.command()
def catalogue(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Items with ids, a JSON object a line.")],
    as_json: Json = False,
) -> None:
    """Puts items into the catalogue; select and recommend then take their ids.

    Example:

        alignx catalogue items.jsonl
    """
    terminal: Terminal = ctx.obj
    items = [item for item in read_items(None, file, CATALOGUE_ITEM) if isinstance(item, CatalogueItem)]
    with terminal.client() as client:
        for start in range(0, len(items), _AT_ONCE):
            stored = client.put_items(items[start : start + _AT_ONCE])
    if as_json:
        terminal.json(stored)
    else:
        terminal.note(f"Put {pluralize(len(items), 'item')}; the catalogue holds {stored.items}.")


def _print(terminal: Terminal, answer: SelectResponse | RecommendResponse, table: Table, *, as_json: bool) -> None:
    terminal.answer(answer, table, as_json=as_json)
    if not as_json:  # the profile reads no summary, hence no version
        more = f", summary version {answer.version}" if answer.version else ""
        basis = f" of {' and '.join(answer.basis)}" if len(answer.basis) > 1 else ""
        terminal.note(f"scored by {answer.method}{basis}" + (f" ({answer.fallback})" if answer.fallback else more))


def read_items(
    texts: list[str] | None, file: Path | None, kind: TypeAdapter[Any] | None = None
) -> tuple[OfferedItem, ...]:
    """The items of the command line, then those of the file."""
    lines = enumerate(read_text(file).split("\n") if file else (), start=1)
    items = (
        *(texts or ()),
        *(_parse_item(number, line.strip(), kind or ITEM) for number, line in lines if line.strip()),
    )
    if not items:
        raise typer.BadParameter("give items as arguments or with --file", param_hint="ITEMS")
    return items


def _parse_item(number: int, line: str, kind: TypeAdapter[Any]) -> OfferedItem:
    """A JSON string or object; any other line is the item's text."""
    if kind is ITEM and not line.startswith(("{", '"')):
        return line
    try:
        item: OfferedItem = kind.validate_json(line)
    except ValidationError as error:
        reason = str(error).splitlines()[-1].strip()
        raise typer.BadParameter(f"line {number} is not an item: {reason}", param_hint="--file") from error
    return item
