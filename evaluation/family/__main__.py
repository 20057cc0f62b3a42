"""Makes the rows of AlignXplore+ of official files: of its test users to evaluate, of the others to train on.

    python -m evaluation.family mind MIND --out mind_upi.jsonl --train mind_train.jsonl
    python -m evaluation.family selection student_phd.json --out student_phd_upi.jsonl
    python -m evaluation evaluation/configs/stage.toml data=mind_upi.jsonl protocol=family model=…

Nothing is downloaded. user_histories.py and, for AlignX and P-Soups, selection_rows.py have the rules. `--prompts`
names the profile whose requests for news, movies or books stand in the rows: the shipped one has our own sentences, a
file by services.prompts.official the public ones.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer
from typer import Option

from evaluation.cases.benchmark import Tally
from evaluation.family.selection_rows import read_selection
from evaluation.family.user_histories import READERS, SEED, evaluation_row, training_row
from services.prompts.alignxplore_plus import read_texts
from services.prompts.profiles import SHIPPED
from training.data.whole_file import replace_file
from training.exceptions import DatasetError, TrainingError

Name = Literal["mind", "amazon", "movielens", "selection"]
QUERY = {"news": "news", "book": "books", "movie": "movies"}
"""Of each topic the query of the prompt profile."""
app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    name: Name,
    source: Annotated[Path, typer.Argument(help="Folder of official files; of selection a file of rows.")],
    out: Annotated[Path, Option(help="UPI rows of the test users, as JSON Lines.")],
    train: Annotated[Path | None, Option(help="Rows of behaviours of the other users.")] = None,
    prompts: Annotated[Path | None, Option(help="Profile file whose requests stand in the rows.")] = None,
    seed: Annotated[int, Option(help="Of the negatives, and of MIND's split.")] = SEED,
) -> None:
    tally = Tally()
    try:
        rows: tuple[Iterable[dict[str, Any]], Iterable[dict[str, Any]]]
        if name == "selection":
            rows = read_selection(source, tally)
        else:
            texts, users = read_texts(prompts or SHIPPED), READERS[name](source, tally, seed)
            query = texts.queries[QUERY[users.topic]]
            evaluated = (evaluation_row(history, users, query) for history in users.test)
            rows = evaluated, (training_row(history, users) for history in users.train)
        tally.rows = _write(out, rows[0])
        trained = _write(train, rows[1]) if train else 0
        if not tally.rows:
            raise DatasetError(f"{source} gives no row; {tally.summary_line(name)}")
    except (TrainingError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    print(f"{tally.summary_line(name)}; {trained:,} users to train on", file=sys.stderr)


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    with replace_file(path) as file:
        return sum(file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)) > 0 for row in rows)


if __name__ == "__main__":
    app()
