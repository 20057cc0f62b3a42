"""The command line: names, errors, the summary, output that is whole or absent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evaluation.cases.benchmark_rows import read_rows
from evaluation.converters.__main__ import app
from evaluation.converters.registry import BENCHMARKS
from tests.unit.evaluation.official import lines, ml_100k


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    return ml_100k(folder)


def run(*arguments: object) -> tuple[int, str]:
    """Status and output of the command."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.exit_code, result.output


def test_rows_are_written_and_the_summary_is_one_line(films: Path, tmp_path: Path):
    out = tmp_path / "new" / "rows.jsonl"
    status, shown = run("movielens", films, "--out", out)
    rows, report = read_rows(out)
    assert (status, len(rows), report.left_out) == (0, 2, 0)
    (line,) = shown.splitlines()
    assert line.startswith("movielens: 2 rows; read 4 genres, 5 films, 8 ratings; left out: users without")
    again = tmp_path / "again.jsonl"
    assert run("movielens", films, "--out", again)[0] == 0
    assert again.read_bytes() == out.read_bytes()
    assert run("movielens", films, "--out", again, "--limit", 1, "--history", 1)[0] == 0
    (row,), _ = read_rows(again)
    assert len(row.history) == 1


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["nothing", "folder", "--out", "rows.jsonl"], 2)])
def test_names_and_their_files_are_listed(arguments: list[str], status: int):
    found, shown = run(*arguments)
    assert found == status
    for name, benchmark in BENCHMARKS.items():
        assert f"  {name} " in shown
        assert benchmark.files in shown


def test_nothing_is_written_when_there_is_no_row(films: Path, tmp_path: Path):
    out = tmp_path / "rows.jsonl"
    out.write_text("before")
    status, shown = run("movielens", films, "--out", out, "--kind", "style")
    assert (status, "gives no row; movielens: 0 rows" in shown) == (1, True)
    assert "rows of another kind 2" in shown
    status, shown = run("movielens", tmp_path / "none", "--out", out)
    assert (status, f"{tmp_path / 'none'} does not exist" in shown) == (1, True)
    assert (out.read_text(), sorted(tmp_path.iterdir())) == ("before", [films, out])


def test_an_output_that_cannot_be_written_is_named(films: Path):
    status, shown = run("movielens", films, "--out", films / "u.data" / "rows.jsonl")
    assert (status, "cannot be written" in shown) == (1, True)


def test_popular_candidates_do_not_depend_on_the_process(tmp_path: Path):
    """The order of a set of texts changes from one process to the next."""
    history = {user: [str(1 + (user * 7 + step * 11) % 60) for step in range(6)] for user in range(30)}
    lines(tmp_path / "X.item", ["item_id:token\ttitle:token", *(f"{item}\tTitle {item}" for item in range(1, 62))])
    users = [f"{user}\t{' '.join(items)}\t61" for user, items in history.items()]
    lines(tmp_path / "X.test.inter", ["user_id:token\titem_id_list:token_seq\titem_id:token", *users])
    lines(tmp_path / "X.random", [f"{user}\t1 2 3" for user in history])
    written = []
    for seed in ("1", "2"):
        out = tmp_path / f"{seed}.jsonl"
        command = ["amazon-candidates", str(tmp_path), "--negatives", "popular", "--out", str(out)]
        subprocess.run(
            [sys.executable, "-m", "evaluation.converters", *command],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
        written.append(out.read_bytes())
    assert written[0] == written[1]
