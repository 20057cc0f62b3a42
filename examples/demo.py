"""Streams the example histories into a running suite and shows each summary follow a change of taste.

    make demo
    .venv/bin/python examples/demo.py --only demo-shopper

For each user: erase the last run's, send the history in parts and show the summary after each, show
what the change of taste changed, then select, rank and (with an engine) answer one question without
the summary and with it. `demo.json` names what the later taste would choose. The histories are in everyday English, on
which the project's own small checkpoints write nonsense, so the demo refuses such an engine.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.rule import Rule

from alignx import AlignX, ClientError, Interaction, Item, ProblemError, RetryPolicy
from alignx.cli import display
from alignx.cli.summary import wait_for_version
from alignx.cli.terminal import USER_KEY, ProblemCommand, Terminal
from alignx.client import endpoints
from alignx.client.transport import DEFAULT_URL
from alignx.schemas.interactions import INTERACTION
from alignx.schemas.items import Frozen
from alignx.schemas.requests import ChatMode, SelectResponse
from alignx.schemas.summaries import Preferences

EXAMPLES = Path(__file__).parent
TOYS = frozenset(("alignx-tiny",))
"""Checkpoints that know no English: their weights are random."""
NO_CHAT = (
    "The chat is left out: it needs a language model. Add one with make up, or with make up ENGINE=http://host:port/v1"
)
MODES: dict[ChatMode, str] = {"none": "For nobody (mode none)", "summary": "By the summary (mode summary)"}


class Selection(Frozen):
    query: str
    items: tuple[Item, ...]
    expected: int
    """Index that the later taste names."""


class Ranking(Frozen):
    query: str
    candidates: tuple[Item, ...]
    expected: tuple[int, ...]
    """Indexes that the later taste names, in any order."""


class User(Frozen):
    user: str
    about: str
    history: str
    """File name."""
    parts: tuple[int, ...]
    """Lines of each part; the taste changes after the first."""
    themes: tuple[str, ...]
    """Words of which the last summary names at least one."""
    select: Selection
    recommend: Ranking
    chat: str

    def events(self) -> tuple[Interaction, ...]:
        lines = (EXAMPLES / self.history).read_bytes().splitlines()
        return tuple(INTERACTION.validate_json(line) for line in lines)


class Plan(Frozen):
    users: tuple[User, ...]


def load_plan() -> Plan:
    return Plan.model_validate_json((EXAMPLES / "demo.json").read_bytes())


def _list_models(client: AlignX) -> tuple[str, ...] | None:
    """None where the engine does not answer."""
    try:
        return client.models()
    except ProblemError as error:
        if error.code != "engine_unavailable":
            raise
        return None


app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(cls=ProblemCommand)
def run(
    ctx: typer.Context,
    wait: Annotated[float, typer.Option(min=1, help="Longest wait for a summary, in seconds.")] = 60.0,
    only: Annotated[str | None, typer.Option(help="One user of the demo.")] = None,
) -> None:
    """Sends example histories and shows how each summary follows a change of taste.

    The users it makes are called demo-…; each run erases those of the last one.
    """
    terminal = ctx.ensure_object(Terminal)
    users = [user for user in load_plan().users if only in (None, user.user)]
    if not users:
        raise typer.BadParameter(f"the demo has no user {only}", param_hint="--only")
    with terminal.client() as client:
        models = _list_models(client)
        if models is None:
            terminal.note("The engine does not answer, so the profile writes the summaries.")
            wait = 1.0  # no version comes
        if toys := TOYS.intersection(models or ()):
            raise ClientError(
                f"The engine is {min(toys)}, which writes nonsense on ordinary English. For the demo start the suite "
                "without it: make up"
            )
        terminal.text("Invented people, each of whom comes to prefer something else. Watch the summaries follow.")
        no_chat: str | None = None
        for user in users:
            tour = Tour(terminal, client, user, wait)
            tour.learn()
            tour.select()
            tour.rank()
            no_chat = no_chat or tour.chat()
    if no_chat:
        terminal.text(f"\n{no_chat}")
    terminal.text(f"\nThe users stay. Look again with: {show_command(users[0].user)}", style="bold")


def show_command(user: str) -> str:
    """The command that shows the user again, with the program, the URL and the key file of this run."""
    key_file, url = os.environ.get("ALIGNX_KEY_FILE", str(USER_KEY)), os.environ.get("ALIGNX_URL", DEFAULT_URL)
    program = Path(os.path.relpath(sys.executable)).with_name("alignx")
    words = [] if key_file == str(USER_KEY) else [f"ALIGNX_KEY_FILE={shlex.quote(key_file)}"]
    words += [str(program)] if url == DEFAULT_URL else [str(program), "--url", url]
    return " ".join([*words, "show", user])


class Tour:
    """One user of the demo, on the screen."""

    def __init__(self, terminal: Terminal, client: AlignX, user: User, wait_s: float) -> None:
        self._terminal = terminal
        self._client = client
        self._user = user
        self._wait_s = wait_s
        self._early_choice: int | None = None
        """What the profile or engine would have chosen after the first part."""

    def learn(self) -> None:
        """Sends the parts and shows the summary after each, then the difference over the change of taste."""
        user, parts = self._user.user, self._user.parts
        self._terminal.text("")
        self._terminal.out.print(Rule(user, characters="="))
        self._terminal.text(self._user.about)
        self._erase()
        events, versions, start = self._user.events(), [0], 0
        for number, size in enumerate(parts, start=1):
            self._heading(f"Part {number} of {len(parts)}: events {start + 1} to {start + size}")
            current = self._append(events[start : start + size], versions[-1])
            self._terminal.out.print(display.summary(current, user=user))
            versions.append(current.version)
            if number == 1:
                self._early_choice = self._selection().choice
            start += size
        if 0 < versions[1] < versions[-1]:
            self._heading(f"How the summary changed, from version {versions[1]} to {versions[-1]}")
            difference = self._client.diff(user, versions[1], versions[-1])
            self._terminal.out.print(display.difference(difference), soft_wrap=True)

    def select(self) -> None:
        items, expected = self._user.select.items, self._user.select.expected
        self._heading(f"Which would {self._user.user} choose? Asked: {self._user.select.query}")
        answer = self._selection()
        self._terminal.out.print(display.selection(answer, items))
        if self._early_choice not in (None, answer.choice):
            self._terminal.text(f"After the first part it was: {title(items[self._early_choice])}")
        self._compare(title(items[expected]), agrees=answer.choice == expected)

    def _selection(self) -> SelectResponse:
        return self._client.select(self._user.user, self._user.select.items, query=self._user.select.query)

    def rank(self) -> None:
        plan = self._user.recommend
        self._heading(f"What suits {self._user.user} best? Asked: {plan.query}")
        answer = self._client.recommend(
            self._user.user, plan.candidates, query=plan.query, k=len(plan.candidates), explain=True
        )
        self._terminal.out.print(display.ranking(answer, plan.candidates))
        best = {ranked.index for ranked in answer.items[: len(plan.expected)]}
        titles = "; ".join(title(plan.candidates[index]) for index in plan.expected)
        self._compare(titles, agrees=best == set(plan.expected))

    def chat(self) -> str | None:
        """Answers one question in each of MODES; without an engine, returns a line that says why not."""
        question, answers = [{"role": "user", "content": self._user.chat}], []
        try:
            for mode in MODES:
                call = endpoints.chat(question, user=self._user.user, mode=mode)
                answers.append((mode, self._client.send(call, retry=RetryPolicy(retries=0))))
        except ProblemError as error:
            if error.code == "no_engine":
                return NO_CHAT
            if error.code == "engine_unavailable":
                return f"The chat is left out. {error.detail}"
            raise
        self._heading(f"Chat: {self._user.chat}")
        for mode, answer in answers:
            self._terminal.text(f"{MODES[mode]}:", style="bold")
            self._terminal.text(answer.text)
        return None

    def _erase(self) -> None:
        try:
            self._client.erase(self._user.user)
        except ProblemError as error:
            if error.code != "user_unknown":
                raise

    def _append(self, events: tuple[Interaction, ...], before: int) -> Preferences:
        """Sends events and waits for the summary that holds them; the profile's when none comes."""
        user, wait_s = self._user.user, self._wait_s
        accepted = self._client.append(user, events, wait=wait_s)
        is_there = accepted.version or wait_for_version(self._client, self._terminal, user, before, wait_s)
        if not is_there:
            self._terminal.note(f"No version was written within {wait_s:g} s; is a worker running?")
        return self._client.preferences(user)

    def _heading(self, text: str) -> None:
        self._terminal.text(f"\n{text}", style="bold cyan")

    def _compare(self, expected: str, *, agrees: bool) -> None:
        verdict = "as expected after the change" if agrees else "expected after the change"
        self._terminal.text(f"-> {verdict}: {expected}", style="green" if agrees else "yellow")


def title(item: Item, longest: int = 80) -> str:
    """The item's title, or the beginning of its text."""
    text = item if isinstance(item, str) else item.title
    return text if len(text) <= longest else text[: longest - 1] + "…"


if __name__ == "__main__":
    app()
