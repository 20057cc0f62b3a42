"""AlignX's own test set and P-Soups, which share one format.

alignx   AlignX-test (https://huggingface.co/datasets/JinaLeejnl/AlignX-test): *.json, *.jsonl or *.parquet.
         The history is the user's posts and then the pairs the user compared.
psoups   concise_detail.json (informativeness), friendly_unfriendly.json (style), student_phd.json (expertise), of
         https://github.com/AntResearchNLP/AlignX-Family: four compared pairs are the history.

Neither the description of the user ("Demographic Information", "profile"), nor "ground_truth_persona", nor
the 90 preference directions enter a row. Some answers of P-Soups quote the persona they were made with: such
pairs are left out of histories, and so are rows whose target is such a pair or is in the history; all are
counted. Rows of one question share its answers, so they are one `cluster`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pydantic import Field

from alignx.schemas.interactions import ComparisonInteraction, Interaction, PostInteraction
from evaluation.cases.benchmark import Benchmark, Plan, Tally, find_files
from evaluation.cases.benchmark_rows import BenchmarkRow, Target
from evaluation.cases.table_files import read_json
from training.data.formats import AlignXRow, MaybeText, Record

PSOUPS: Final = {
    "concise_detail.json": "informativeness",
    "friendly_unfriendly.json": "style",
    "student_phd.json": "expertise",
}


class Persona(Record):
    persona: MaybeText = Field(default="", alias="ground_truth_persona")
    """Used only to leave out texts that quote it."""


def convert(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    for file in find_files(folder, "*.json", "*.jsonl", "*.parquet"):
        yield from _rows(file, "alignx", "", frozenset(), plan, tally)


def convert_psoups(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    for file in find_files(folder, *PSOUPS):
        personas = (row.persona.strip().rstrip(".") for _, row in read_json(file, Tally(), "rows", Persona))
        secrets = frozenset(persona.casefold() for persona in personas if persona)
        yield from _rows(file, "psoups", PSOUPS[file.name], secrets, plan, tally)


def _rows(
    file: Path, benchmark: str, kind: str, secrets: frozenset[str], plan: Plan, tally: Tally
) -> Iterator[BenchmarkRow]:
    for number, (_, row) in enumerate(read_json(file, tally, f"rows of {file.name}", AlignXRow)):
        if _quotes(secrets, row.prompt, row.chosen, row.rejected):
            tally.left_out["rows whose target quotes a true persona"] += 1
            continue
        history = _history(row, secrets, tally)
        if not history:
            tally.left_out["rows without posts and pairs"] += 1
            continue
        if _repeats(history, row):
            tally.left_out["rows whose target stands in their history"] += 1
            continue
        yield BenchmarkRow(
            userid=f"{kind or file.stem}-{number}",
            benchmark=benchmark,
            kind=kind,
            cluster=row.prompt,
            history=plan.latest(history),
            target=Target(query=row.prompt, chosen=row.chosen, rejected=row.rejected),
        )


def _history(row: AlignXRow, secrets: frozenset[str], tally: Tally) -> list[Interaction]:
    posts = (post for post in row.posts if post.comment.strip())
    history: list[Interaction] = [PostInteraction(prompt=post.prompt or None, text=post.comment) for post in posts]
    for pair in row.pairs:
        if _quotes(secrets, *pair.texts()):
            tally.left_out["pairs that quote a true persona"] += 1
        else:
            history.append(ComparisonInteraction(query=pair.query or None, chosen=pair.chosen, rejected=pair.rejected))
    return history


def _repeats(history: Sequence[Interaction], row: AlignXRow) -> bool:
    """Whether the history has the same question with one of the two answers."""
    return any(
        event.query == (row.prompt or None) and {event.chosen, event.rejected} & {row.chosen, row.rejected}
        for event in history
        if isinstance(event, ComparisonInteraction)
    )


def _quotes(secrets: frozenset[str], *texts: str) -> bool:
    return any(secret in text.casefold() for secret in secrets for text in texts)


ALIGNX = Benchmark("alignx", "the test set as *.json, *.jsonl or *.parquet", convert)
PSOUPS_BENCHMARK = Benchmark("psoups", f"some of {', '.join(PSOUPS)}", convert_psoups)
