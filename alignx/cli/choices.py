"""The commands of `alignx` that ask for answers: chat, select, recommend."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from alignx.cli import render
from alignx.cli.terminal import ProblemGroup, Terminal, shown
from alignx.client.client import AlignX
from alignx.client.retry import RetryPolicy
from alignx.schemas.items import Item
from alignx.schemas.requests import ChatMode, Method, RecommendResponse, SelectResponse

app = typer.Typer(cls=ProblemGroup)

ITEM: TypeAdapter[Item] = TypeAdapter(Item)

User = Annotated[str, typer.Argument(help="The user's id.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
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
) -> None:
    """Asks for an answer that suits the user; without a message, a conversation.

    Examples:

        alignx chat ada "What should I read tonight?"

        alignx chat ada --mode none

        cat question.txt | alignx chat ada -
    """
    terminal: Terminal = ctx.obj
    # A person waits: one further try, and then the reason.
    with terminal.client(retry=RetryPolicy(retries=1)) as client:
        talk = Talk(terminal, client, user, mode, max_history)
        if message is not None:
            talk.say(sys.stdin.read() if message == "-" else message)
            return
        terminal.note(f"Talking as {user}, mode {mode}. An empty line or Ctrl-D ends it.")
        for line in _lines(terminal):
            talk.say(line)


class Talk:
    """A conversation: the turns so far, and the streaming of the next one to the screen."""

    def __init__(self, terminal: Terminal, client: AlignX, user: str, mode: ChatMode, max_history: int | None) -> None:
        self._terminal = terminal
        self._client = client
        self._user = user
        self._mode = mode
        self._max_history = max_history
        self._turns: list[dict[str, str]] = []

    def say(self, message: str) -> None:
        turns = [*self._turns, {"role": "user", "content": message}]
        pieces: list[str] = []
        used = None
        stream = self._client.stream_chat(turns, user=self._user, mode=self._mode, max_history=self._max_history)
        for chunk in stream:
            used = chunk.personalization or used
            pieces.append(chunk.text)
            typer.echo(shown(chunk.text), nl=False)
        typer.echo()
        if used is not None:
            version = "" if used.version is None else f", summary version {used.version}"
            self._terminal.note(f"({used.mode}{version})")
        self._turns = [*turns, {"role": "assistant", "content": "".join(pieces)}]


def _lines(terminal: Terminal) -> Iterator[str]:
    while True:
        try:
            line = terminal.err.input("> ").strip()
        except EOFError:
            return
        if not line:
            return
        yield line


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
    """Tells which of 2 to 26 items the user would choose.

    Examples:

        alignx select ada "A short joke" "A worked derivation" --query "Why is the sky blue?"

        alignx select ada --file answers.jsonl --json
    """
    terminal: Terminal = ctx.obj
    chosen_from = read_items(items, file)
    with terminal.client() as client:
        answer = client.select(user, chosen_from, query=query, method=method)
    if as_json:
        terminal.json(answer)
        return
    terminal.out.print(render.selection(answer, chosen_from))
    terminal.note(_scored_by(answer))


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
    if as_json:
        terminal.json(answer)
        return
    terminal.out.print(render.ranking(answer, candidates))
    terminal.note(_scored_by(answer))


def _scored_by(answer: SelectResponse | RecommendResponse) -> str:
    """The profile reads no summary, hence no version."""
    return f"scored by {answer.method}" + (f", summary version {answer.version}" if answer.version else "")


def read_items(texts: list[str] | None, file: Path | None) -> tuple[Item, ...]:
    """The items of the command line, then those of the file."""
    found: list[Item] = list(texts or ())
    if file is not None:
        for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
            if line.strip():
                found.append(_item(number, line.strip()))
    if not found:
        raise typer.BadParameter("give items as arguments or with --file", param_hint="ITEMS")
    return tuple(found)


def _item(number: int, line: bytes) -> Item:
    """A JSON string or object; any other line is the item's text."""
    try:
        if not line.startswith((b"{", b'"')):
            return line.decode("utf-8")
        return ITEM.validate_json(line)
    except (UnicodeDecodeError, ValidationError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise typer.BadParameter(f"line {number} is not an item: {reason}", param_hint="--file") from error
