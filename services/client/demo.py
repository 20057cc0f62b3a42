"""`alignx demo`: the main job on the histories of `examples/`, from first event to personal answer.

For each user: erase the last run's, send the history in parts and show the summary after each, show
what the change of taste changed, then select, rank and (with an engine) answer one question in every
mode. The last two parts of each history speak for another taste than the first, and
`examples/demo.json` names what the later taste would choose.

Two users write in the language of the small synthetic world that models/alignx-mini was trained on;
where that model is the engine, it is shown with these alone.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import Field, ValidationError
from rich.rule import Rule

from services.client import calls, ingest, render
from services.client.calls import PreferencesRead
from services.client.client import AlignX
from services.client.problem import ClientError, ProblemError
from services.client.summary import newer
from services.client.terminal import ProblemGroup, Terminal
from services.core.schemas import ChatMode, Frozen, Interaction, Item, SelectResponse, UserId

app = typer.Typer(cls=ProblemGroup)

EXAMPLES = Path(__file__).parents[2] / "examples"
MINI = "alignx-mini"
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
    language: Literal["english", "mini"] = "english"
    """What the texts are written in: mini is that of the world alignx-mini was trained on."""
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
        missing: str | None = None
        small = only is None and MINI in client.send(calls.models())
        users = [user for user in every if not small or user.language == "mini"] or every
        for user in users:
            tour = Tour(terminal, client, user, wait)
            tour.learn(history(examples, user))
            tour.choose()
            tour.rank()
            missing = missing or tour.talk()
    if missing:
        terminal.text("")
        terminal.text(f"The chat was left out. {missing}")
    if left := [user.user for user in every if user not in users]:
        terminal.text("")
        terminal.text(
            f"{MINI} knows a small synthetic world only. Histories in ordinary English are for a larger engine or "
            f"for the profile (make up ENGINE=profile): {', '.join(left)}"
        )
    terminal.text("")
    terminal.text(f"The users stay. Look again with: alignx show {users[0].user}", style="bold")


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
            self._head(f"What the change of taste changed, version {versions[0]} to {versions[-1]}")
            changed = self._client.diff(self._user.user, versions[0], versions[-1])
            self._terminal.out.print(render.difference(changed), soft_wrap=True)

    def choose(self) -> None:
        asked = self._user.select
        self._head(f"Which answer would {self._user.user} choose? {asked.query}")
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
        self._head(f"What suits {self._user.user} best? {asked.query}")
        answer = self._client.recommend(self._user.user, asked.candidates, query=asked.query, k=len(asked.candidates))
        self._terminal.out.print(render.ranking(answer, asked.candidates))
        best = {ranked.index for ranked in answer.items[: len(asked.expected)]}
        titles = "; ".join(name_of(asked.candidates[index]) for index in asked.expected)
        self._judge(best == set(asked.expected), titles)

    def talk(self) -> str | None:
        """One question answered in every mode; without an engine, what the service says of that."""
        question = [{"role": "user", "content": self._user.chat}]
        answers = []
        try:
            for mode in MODES:
                shown = SHOWN_EVENTS if mode in ("ica", "direct") else None
                asked = calls.chat(question, user=self._user.user, mode=mode, max_history=shown)
                answers.append((mode, self._client.send(asked, retries=0)))
        except ProblemError as error:
            if error.code in ("no_engine", "engine_unavailable"):
                return error.detail
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
        verdict = "as the later taste says" if agrees else "the later taste would say"
        self._terminal.text(f"-> {verdict}: {expected}", style="green" if agrees else "yellow")
