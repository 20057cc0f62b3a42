"""UF-P-4: UltraFeedback as four kinds of users would judge it, each after one criterion.
https://github.com/WEIRDLabUW/vpl_llm

<user>/test.jsonl, or test.jsonl, else *.jsonl   a pair a line: prompt, chosen, rejected (the last two as
    "Human: <prompt>\\n\\nAssistant: <answer>"), data_subset (the kind of user: 8, 4, 2 or 1), Index, contexts

A context is a pair of the same user, with its own chosen and rejected, or by `original_id`, the Index of another line.
It becomes a comparison of the history. Lines without contexts get `--history` (at most 8) other pairs of the same
user with other prompts, drawn. The kind of user is in no text of a row.

Written after the code that makes the files; no part of the data was at hand. Embeddings in them are not read.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

from pydantic import AliasChoices, BeforeValidator, Field

from alignx.schemas.interactions import ComparisonInteraction
from evaluation.cases.benchmark import Benchmark, Plan, Tally, find_files
from evaluation.cases.benchmark_rows import BenchmarkRow, Target
from evaluation.cases.table_files import read_json
from training.data.formats import MaybeText, Record, SomeText

DRAWN: Final = 8
HUMAN_TURN, ASSISTANT_TURN = "Human:", "\n\nAssistant:"

Name = Annotated[str, BeforeValidator(lambda value: "" if value is None else str(value))]


class Context(Record):
    index: Name = Field(default="", alias="original_id")
    chosen: MaybeText = ""
    rejected: MaybeText = ""


class Line(Record):
    index: Name = Field(default="", validation_alias=AliasChoices("Index", "index"))
    user: Name = Field(default="", alias="data_subset")
    prompt: MaybeText = ""
    chosen: SomeText
    rejected: SomeText
    contexts: Annotated[tuple[Context, ...], BeforeValidator(lambda value: value or ())] = ()


def convert(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    tests = [*folder.glob("*/test.jsonl"), *folder.glob("test.jsonl")]
    for file in sorted(tests) or find_files(folder, "*.jsonl"):
        lines = [line for _, line in read_json(file, tally, "pairs", Line)]
        owner = "" if file.parent == folder else file.parent.name
        by_user: dict[str, list[Line]] = {}
        for line in lines:
            by_user.setdefault(line.user or owner, []).append(line)
        for user, own in by_user.items():
            yield from _rows(user, own, plan, tally)


def _rows(user: str, own: Sequence[Line], plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    by_index = {line.index: line for line in own if line.index}
    for number, line in enumerate(own):
        query, chosen = split_text(line.chosen, line.prompt)
        _, rejected = split_text(line.rejected, line.prompt)
        if line.contexts:
            contexts = [context if context.chosen else by_index.get(context.index) for context in line.contexts]
            history = [
                pair for context in contexts if context and (pair := _comparison(context)) and pair.query != query
            ]
        else:
            order = plan.rng("uf-p-4", user, number).sample(own, min(len(own), 2 * DRAWN))
            pairs = [pair for other in order if (pair := _comparison(other)) and pair.query != query]
            history = pairs[: min(DRAWN, plan.history)]
        if not history or chosen == rejected:
            tally.left_out["pairs without another pair of the user" if not history else "pairs of one text"] += 1
            continue
        yield BenchmarkRow(
            userid=f"{user or 'user'}-{line.index or number}",
            benchmark="uf-p-4",
            history=plan.latest(history),
            target=Target(query=query, chosen=chosen, rejected=rejected),
        )


def _comparison(pair: Line | Context) -> ComparisonInteraction | None:
    query, chosen = split_text(pair.chosen, pair.prompt if isinstance(pair, Line) else "")
    _, rejected = split_text(pair.rejected, query)
    if not chosen or not rejected or chosen == rejected:
        return None
    return ComparisonInteraction(query=query or None, chosen=chosen, rejected=rejected)


def split_text(text: str, prompt: str) -> tuple[str, str]:
    """The question and the last answer of a text with both; else `prompt` and the text."""
    before, separator, answer = text.rpartition(ASSISTANT_TURN)
    if not separator:
        return prompt.strip(), text.strip()
    return (prompt or before.strip().removeprefix(HUMAN_TURN)).strip(), answer.strip()


UF_P_4 = Benchmark("uf-p-4", "<user>/test.jsonl, test.jsonl or other *.jsonl", convert)
