"""`alignx demo`: the main job on the histories of `examples/`, from first event to personal answer.

For each user: erase the last run's, send the history in parts and show the summary after each, show
what the change of taste changed, then select, rank and (with an engine) answer one question in every
mode. The last two parts of each history speak for another taste than the first, and
`examples/demo.json` names what the later taste would choose.

The histories are in everyday English. The project's own small checkpoints write nonsense on that, so the
demo refuses to run with one of them as the engine.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field, ValidationError
from rich.rule import Rule

from alignx.cli import ingest, render
from alignx.cli.summary import newer
from alignx.cli.terminal import USER_KEY, ProblemGroup, Terminal
from alignx.client import endpoints
from alignx.client.client import AlignX
from alignx.client.endpoints import PreferencesRead
from alignx.client.errors import ClientError, ProblemError
from alignx.client.transport import DEFAULT_URL
from alignx.schemas.interactions import Interaction
from alignx.schemas.items import Frozen, Item, UserId
from alignx.schemas.requests import ChatMode, SelectResponse

app = typer.Typer(cls=ProblemGroup)

EXAMPLES = Path(__file__).parents[2] / "examples"
TOYS = frozenset(("alignx-mini", "alignx-tiny"))
"""Checkpoints that know no English: one learned a small synthetic world, the other has random weights."""
NO_CHAT = (
    "The chat modes are left out: they need a language model. Add one with make up MODEL=path/to/checkpoint, "
    "or with make up ENGINE=http://host:port/v1"
)
SHOWN_EVENTS = 8
"""Of a history, where a mode shows events to the engine: what a small model can read."""

MODES: dict[ChatMode, str] = {
    "none": "For nobody (mode none)",
    "summary": "By the summary (mode summary)",
    "ica": "By past choices as examples (mode ica)",
    "pba": "By preference directions (mode pba)",
    "direct": "By the history itself (mode direct)",
}


class DemoSelection(Frozen):
    """Answers to choose from; `expected` is the index that the late taste names."""

    query: str
    items: tuple[Item, ...] = Field(min_length=2)
    expected: int


class DemoRanking(Frozen):
    """Candidates to rank; `expected` are the indexes that the late taste names, in any order."""

    query: str = ""
    candidates: tuple[Item, ...] = Field(min_length=2)
    expected: tuple[int, ...] = Field(min_length=1)


class DemoUser(Frozen):
    user: UserId
    about: str
    history: str
    """File of the history, beside demo.json."""
    parts: tuple[int, ...] = Field(min_length=2)
    """Lines of each part; the taste changes after the first."""
    select: DemoSelection
    recommend: DemoRanking
    chat: str


class DemoPlan(Frozen):
    users: tuple[DemoUser, ...] = Field(min_length=1)


def load(examples: Path) -> DemoPlan:
    """Raises ClientError if the folder does not hold the examples."""
    try:
        return DemoPlan.model_validate_json((examples / "demo.json").read_bytes())
    except OSError as error:
        raise ClientError(f"The examples are not in {examples}: name their folder with --examples.") from error
    except ValidationError as error:
        raise ClientError(f"{examples / 'demo.json'} is not a demo: {error}") from error


def history(examples: Path, user: DemoUser) -> tuple[Interaction, ...]:
    """The events of one user's file, in order. Raises ClientError."""
    path = examples / user.history
    try:
        with path.open("rb") as file:
            reader = ingest.Reader(user.user)
            entries = [reader.read(number, line) for number, line in enumerate(file, start=1)]
    except OSError as error:
        raise ClientError(f"{path}: {error.strerror}") from error
    except ingest.LineError as error:
        raise ClientError(f"{path}: line {error.problems[0].line}: {error.problems[0].message}") from error
    return tuple(entry.event for line in entries for entry in line)


def name_of(item: Item, longest: int = 80) -> str:
    """The item's title, or the beginning of its text."""
    name = item if isinstance(item, str) else item.title
    return name if len(name) <= longest else name[: longest - 1] + "…"


@app.command("demo")
def demo(
    ctx: typer.Context,
    examples: Annotated[Path, typer.Option(file_okay=False, help="Folder with demo.json.")] = EXAMPLES,
    wait: Annotated[float, typer.Option(min=1, help="Longest wait for a summary, in seconds.")] = 60.0,
    only: Annotated[str | None, typer.Option(help="One user of the demo.")] = None,
) -> None:
    """Sends example histories and shows how each summary follows a change of taste.

    The users it makes are called demo-…; each run erases those of the last one.

    Examples:

        alignx demo

        alignx demo --only demo-shopper
    """
    terminal: Terminal = ctx.obj
    every = [user for user in load(examples).users if only in (None, user.user)]
    if not every:
        raise typer.BadParameter(f"the demo has no user {only}", param_hint="--only")
    with terminal.client() as client:
        served = client.models()
        if toys := TOYS.intersection(served):
            raise ClientError(
                f"The engine is {min(toys)}, which writes nonsense on ordinary English. For the demo start the suite "
                "without it: make up"
            )
        terminal.text("Invented people, each of whom comes to prefer something else. Watch the summaries follow.")
        missing: str | None = None
        for user in every:
            tour = Tour(terminal, client, user, wait)
            tour.learn(history(examples, user))
            tour.choose()
            tour.rank()
            missing = missing or tour.talk()
    if missing:
        terminal.text("")
        terminal.text(missing)
    terminal.text("")
    terminal.text(f"The users stay. Look again with: {_command(terminal, every[0].user)}", style="bold")


def _command(terminal: Terminal, user: str) -> str:
    """What shows the user once more, with the program, the URL and the key file of this run."""
    program = sys.argv[0] if Path(sys.argv[0]).name == "alignx" else "alignx"
    file = os.environ.get("ALIGNX_KEY_FILE") or str(USER_KEY)
    words = [] if file == str(USER_KEY) else [f"ALIGNX_KEY_FILE={shlex.quote(file)}"]
    words += [program] if terminal.url in (None, DEFAULT_URL) else [program, "--url", str(terminal.url)]
    return " ".join([*words, "show", user])


class Tour:
    """One user of the demo, on the screen."""

    def __init__(self, terminal: Terminal, client: AlignX, user: DemoUser, wait_s: float) -> None:
        self._terminal = terminal
        self._client = client
        self._user = user
        self._wait_s = wait_s
        self._early_choice: int | None = None
        """What the profile or engine would have chosen after the first part."""

    def learn(self, events: tuple[Interaction, ...]) -> None:
        """Sends the parts and shows the summary after each, then the difference over the change of taste."""
        self._terminal.text("")
        self._terminal.out.print(Rule(self._user.user, characters="="))
        self._terminal.text(self._user.about)
        self._erase()
        versions: list[int] = []
        start = 0
        for place, lines in enumerate(self._user.parts, start=1):
            part = events[start : start + lines]
            self._head(f"Part {place} of {len(self._user.parts)}: events {start + 1} to {start + len(part)}")
            current = self._append(part, before=versions[-1] if versions else 0)
            self._terminal.out.print(render.summary(current, user=self._user.user))
            versions.append(current.version)
            if place == 1:
                self._early_choice = self._selected().choice
            start += lines
        if 0 < versions[0] < versions[-1]:
            self._head(f"How the summary changed, from version {versions[0]} to {versions[-1]}")
            changed = self._client.diff(self._user.user, versions[0], versions[-1])
            self._terminal.out.print(render.difference(changed), soft_wrap=True)

    def choose(self) -> None:
        asked = self._user.select
        self._head(f"Which would {self._user.user} choose? Asked: {asked.query}")
        answer = self._selected()
        self._terminal.out.print(render.selection(answer, asked.items))
        if self._early_choice not in (None, answer.choice):
            self._terminal.text(f"After the first part it was: {name_of(asked.items[self._early_choice])}")
        self._judge(answer.choice == asked.expected, name_of(asked.items[asked.expected]))

    def _selected(self) -> SelectResponse:
        asked = self._user.select
        return self._client.select(self._user.user, asked.items, query=asked.query)

    def rank(self) -> None:
        asked = self._user.recommend
        self._head(f"What suits {self._user.user} best? Asked: {asked.query}")
        answer = self._client.recommend(
            self._user.user, asked.candidates, query=asked.query, k=len(asked.candidates), explain=True
        )
        self._terminal.out.print(render.ranking(answer, asked.candidates))
        best = {ranked.index for ranked in answer.items[: len(asked.expected)]}
        titles = "; ".join(name_of(asked.candidates[index]) for index in asked.expected)
        self._judge(best == set(asked.expected), titles)

    def talk(self) -> str | None:
        """One question answered in every mode; without an engine, a line that says so."""
        question = [{"role": "user", "content": self._user.chat}]
        answers = []
        try:
            for mode in MODES:
                shown = SHOWN_EVENTS if mode in ("ica", "direct") else None
                asked = endpoints.chat(question, user=self._user.user, mode=mode, max_history=shown)
                answers.append((mode, self._client.send(asked, retries=0)))
        except ProblemError as error:
            if error.code == "no_engine":
                return NO_CHAT
            if error.code == "engine_unavailable":
                return f"The chat modes are left out. {error.detail}"
            raise
        self._head(f"Chat: {self._user.chat}")
        for mode, answer in answers:
            told = answer.personalization
            used = "" if told is None or told.mode == mode else " (the history says nothing in this form: plain answer)"
            self._terminal.text(f"{MODES[mode]}{used}:", style="bold")
            self._terminal.text(answer.text)
        return None

    def _erase(self) -> None:
        try:
            self._client.forget(self._user.user)
        except ProblemError as error:
            if error.code != "user_unknown":
                raise

    def _append(self, part: tuple[Interaction, ...], *, before: int) -> PreferencesRead:
        """Sends events and waits for the summary that holds them; the profile's when none comes."""
        accepted = self._client.append(self._user.user, part, wait=self._wait_s)
        if (
            accepted.version is None
            and newer(self._client, self._terminal, self._user.user, before, self._wait_s) is None
        ):
            self._terminal.note(f"No version was written within {self._wait_s:g} s; is a worker running?")
        return self._client.preferences(self._user.user)

    def _head(self, text: str) -> None:
        self._terminal.text("")
        self._terminal.text(text, style="bold cyan")

    def _judge(self, agrees: bool, expected: str) -> None:
        verdict = "as expected after the change" if agrees else "expected after the change"
        self._terminal.text(f"-> {verdict}: {expected}", style="green" if agrees else "yellow")
