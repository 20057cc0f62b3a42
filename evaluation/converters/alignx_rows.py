"""AlignX's own test set and P-Soups, which are published in one form.

alignx   AlignX-test (https://huggingface.co/datasets/JinaLeejnl/AlignX-test): *.json, *.jsonl or *.parquet.
         The history is the user's posts and then the pairs the user compared.
psoups   concise_detail.json (informativeness), friendly_unfriendly.json (style), student_phd.json (expertise), of
         https://github.com/AntResearchNLP/AlignX-Family: four compared pairs are the history.

Neither the description of the user ("Demographic Information", "profile"), nor "ground_truth_persona", nor
the 90 preference directions enter a row. Some answers of P-Soups quote the persona they were made with: such
pairs are left out of histories, and so are rows whose target is such a pair or stands in the history, all
counted. Rows of one question share its answers: they are one `cluster`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pydantic import Field

from alignx.schemas.interactions import ComparisonInteraction, Interaction, PostInteraction
from evaluation.cases.benchmark import Benchmark, Plan, Tally, files_like
from evaluation.cases.benchmark_rows import BenchmarkRow, Target
from evaluation.cases.table_files import json_rows
from training.data.formats import AlignXRow, MaybeText, Record

PSOUPS: Final = {
    "concise_detail.json": "informativeness",
    "friendly_unfriendly.json": "style",
    "student_phd.json": "expertise",
}


class Persona(Record):
    persona: MaybeText = Field(default="", alias="ground_truth_persona")
    """Read only to leave out what quotes it."""


def convert(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    for file in files_like(folder, "*.json", "*.jsonl", "*.parquet"):
        yield from _rows(file, "alignx", "", frozenset(), plan, tally)


def convert_psoups(folder: Path, plan: Plan, tally: Tally) -> Iterator[BenchmarkRow]:
    for file in files_like(folder, *PSOUPS):
        told = (row.persona.strip().rstrip(".") for _, row in json_rows(file, Tally(), "rows", Persona))
        secrets = frozenset(persona.casefold() for persona in told if persona)
        yield from _rows(file, "psoups", PSOUPS[file.name], secrets, plan, tally)


def _rows(
    file: Path, benchmark: str, kind: str, secrets: frozenset[str], plan: Plan, tally: Tally
) -> Iterator[BenchmarkRow]:
    for number, (_, row) in enumerate(json_rows(file, tally, f"rows of {file.name}", AlignXRow)):
        if _quoting(secrets, row.prompt, row.chosen, row.rejected):
            tally.left_out["rows whose target quotes a true persona"] += 1
            continue
        history = _history(row, secrets, tally)
        if not history:
            tally.left_out["rows without posts and pairs"] += 1
            continue
        if _told(history, row):
            tally.left_out["rows whose target stands in their history"] += 1
            continue
        yield BenchmarkRow(
            userid=f"{kind or file.stem}-{number}",
            benchmark=benchmark,
            kind=kind,
            cluster=row.prompt,
            history=plan.recent(history),
            target=Target(query=row.prompt, chosen=row.chosen, rejected=row.rejected),
        )


def _history(row: AlignXRow, secrets: frozenset[str], tally: Tally) -> list[Interaction]:
    posts = (post for post in row.posts if post.comment.strip())
    found: list[Interaction] = [PostInteraction(prompt=post.prompt or None, text=post.comment) for post in posts]
    for pair in row.pairs:
        if _quoting(secrets, *pair.texts()):
            tally.left_out["pairs that quote a true persona"] += 1
        else:
            found.append(ComparisonInteraction(query=pair.query or None, chosen=pair.chosen, rejected=pair.rejected))
    return found


def _told(history: Sequence[Interaction], row: AlignXRow) -> bool:
    """Whether the same question was asked before and one of the two answers offered."""
    return any(
        event.query == (row.prompt or None) and {event.chosen, event.rejected} & {row.chosen, row.rejected}
        for event in history
        if isinstance(event, ComparisonInteraction)
    )


def _quoting(secrets: frozenset[str], *texts: str) -> bool:
    return any(secret in text.casefold() for secret in secrets for text in texts)


ALIGNX = Benchmark("alignx", "the test set as *.json, *.jsonl or *.parquet", convert)
PSOUPS_BENCHMARK = Benchmark("psoups", f"some of {', '.join(PSOUPS)}", convert_psoups)
