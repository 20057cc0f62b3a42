"""PrefEval: does an answer follow the stated preference of the user? https://github.com/amazon-science/PrefEval

Of its folder benchmark_dataset:
mcq_options/<topic>.json                          preference, question, four options, the first of which is aligned
explicit_preference/<topic>.json                  the preference as a sentence
implicit_preference/choice-based/<topic>.json     a conversation in which the user takes an option of another question
implicit_preference/persona-driven/<topic>.json   a longer conversation that lets the preference through

A question gives a row for each form that is there (kind: explicit, choice, persona), with the sentence or the
conversation as history. All four options stay in one row: the aligned one is chosen, one of the others, drawn, is
rejected, and the last two are `others`, so that both a pair and a choice among four can be measured without
counting a question thrice. In the implicit forms the preference itself, and in all the persona and the explanation,
are left out.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from alignx.schemas.interactions import DialogueInteraction, Interaction, StatementInteraction
from evaluation.cases.benchmark import Benchmark, Plan, Tally, draw_rejected, find_files, parse_message
from evaluation.cases.benchmark_rows import BenchmarkRow
from evaluation.cases.table_files import read_json
from training.data.formats import Record, SomeText


class Question(Record):
    question: SomeText


class Options(Question):
    options: Annotated[tuple[SomeText, ...], Field(alias="classification_task_options", min_length=2)]


class StatedPreference(Question):
    preference: SomeText

    def event(self) -> Interaction:
        return StatementInteraction(text=self.preference)


class ChoiceConversation(Record):
    query: SomeText
    assistant_options: SomeText
    user_selection: SomeText
    assistant_acknowledgment: SomeText


class ChosenPreference(Question):
    conversation: ChoiceConversation

    def event(self) -> Interaction:
        talk = self.conversation
        return _dialogue((talk.query, talk.assistant_options), (talk.user_selection, talk.assistant_acknowledgment))


class Exchange(Record):
    user: SomeText
    assistant: SomeText


class ImpliedPreference(Question):
    conversation: Annotated[dict[str, Exchange], Field(min_length=1)]
    """By the number of the exchange, from "0" on."""

    def event(self) -> Interaction:
        turns = (self.conversation[number] for number in sorted(self.conversation, key=lambda name: (len(name), name)))
        return _dialogue(*((turn.user, turn.assistant) for turn in turns))


def _dialogue(*exchanges: tuple[str, str]) -> DialogueInteraction:
    turns = (
        turn for user, reply in exchanges for turn in (parse_message("user", user), parse_message("assistant", reply))
    )
    return DialogueInteraction(messages=tuple(turn for turn in turns if turn))


FORMS: Final[dict[str, tuple[str, type[StatedPreference | ChosenPreference | ImpliedPreference]]]] = {
    "explicit": ("explicit_preference", StatedPreference),
    "choice": ("implicit_preference/choice-based", ChosenPreference),
    "persona": ("implicit_preference/persona-driven", ImpliedPreference),
}


def convert(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    for file in find_files(folder, "mcq_options/*.json"):
        topic = file.stem
        forms = {
            kind: _by_question(folder / where / file.name, form, kind, tally) for kind, (where, form) in FORMS.items()
        }
        for number, (_, row) in enumerate(read_json(file, tally, "questions", Options)):
            if len({*row.options}) < len(row.options):
                tally.left_out["questions with an option twice"] += 1
                continue
            for kind, next_event in forms.items():
                event = next_event(row.question)
                if event is None:
                    tally.left_out[f"questions without their {kind} form"] += 1
                    continue
                aligned, *wrong = row.options
                yield BenchmarkRow(
                    userid=f"{topic}-{number}",
                    benchmark="prefeval",
                    topic=topic,
                    kind=kind,
                    history=(event,),
                    **draw_rejected(row.question, aligned, wrong, plan.rng("prefeval", topic, number)),
                )


def _by_question(
    file: Path, form: type[StatedPreference | ChosenPreference | ImpliedPreference], kind: str, tally: Tally
) -> Callable[[str], Interaction | None]:
    """The event before a question; for a question asked of several users, theirs in turn."""
    events: dict[str, list[Interaction]] = {}
    if file.is_file():
        for _, row in read_json(file, tally, f"histories ({kind})", form):
            events.setdefault(row.question, []).append(row.event())
    return lambda question: events[question].pop(0) if events.get(question) else None


PREFEVAL = Benchmark(
    "prefeval",
    "benchmark_dataset: mcq_options/, and explicit_preference/, implicit_preference/choice-based/ or "
    "implicit_preference/persona-driven/",
    convert,
)
