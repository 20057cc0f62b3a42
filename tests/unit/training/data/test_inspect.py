"""`python -m training.data.inspect`: what it prints, as JSON too, and how it fails."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.unit.training.data.rows import MAKERS, alignx, rl, upi
from tests.unit.training.small_runs import sft_row
from training.corpus.lexicon import Pen
from training.corpus.world_rows import World, inference
from training.data.formats import KINDS
from training.data.inspect import app


def written(path: Path, rows: list[dict[str, Any]], *, end: str = "") -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + end, encoding="utf-8")
    return str(path)


def invoked(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments], env={"COLUMNS": "200"})


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_is_found_out(tmp_path: Path, kind: str):
    done = invoked(written(tmp_path / "rows.jsonl", [MAKERS[kind](number) for number in range(30)]))
    assert done.exit_code == 0, done.output
    assert f"{kind}: {KINDS[kind].label} rows" in done.stdout
    assert "warning" in done.stdout or "No warning." in done.stdout


def test_figures_are_printed_and_no_text_of_a_user(tmp_path: Path):
    bad = [{**alignx(1), "chosen": ["SECRET"]}, {**alignx(2), "prompt": "", "rejected": "SECRET"}]
    rows = [{**alignx(number), "Demographic Information": "SECRET"} for number in range(30)]
    path = written(tmp_path / "rows.jsonl", [*rows, *bad], end='{"SECRET\n')
    done = invoked(path)
    assert done.exit_code == 0, done.output
    for line in (
        "rows                  30",
        "malformed             3",
        "line 31: chosen: must be text",
        "line 33: not JSON",
    ):
        assert line in done.stdout
    assert "direction values" in done.stdout
    assert "88 of 90" in done.stdout
    as_json = invoked(path, "--json")
    assert "SECRET" not in done.output + as_json.output


def test_json_holds_every_figure(tmp_path: Path):
    path = written(tmp_path / "rows.jsonl", [{**rl(number), "extra": 1} for number in range(30)], end="no json\n")
    found = json.loads(invoked(path, "--json").stdout)
    assert (found["kind"], found["figures"]["rows"], found["malformed"]) == ("rl", 30, {"not JSON": 1})
    assert found["malformed_examples"] == [{"location": "line 31", "reason": "not JSON"}]
    assert found["unread_fields"] == ["extra"]
    assert found["figures"]["spreads"]["mid_position"]["median"] == 2
    assert found["warnings"] == ["the chosen text is the longer one in 0% of the choices: length alone would win"]


def test_strict_tells_by_the_exit_code(tmp_path: Path):
    good = [{**upi(number), "target": {"chosen": f"a{number}", "rejected": f"b{number}"}} for number in range(30)]
    assert invoked(written(tmp_path / "good.jsonl", good), "--strict").exit_code == 0
    assert invoked(written(tmp_path / "bad.jsonl", good, end="x\n"), "--strict").exit_code == 1
    assert invoked(written(tmp_path / "twice.jsonl", good * 2), "--strict").exit_code == 1
    assert invoked(str(tmp_path / "twice.jsonl")).exit_code == 0


def test_mistakes_are_one_sentence_each(tmp_path: Path):
    cases = {
        invoked(str(tmp_path / "absent.jsonl")): "does not exist",
        invoked(written(tmp_path / "empty.jsonl", [])): "looks like no known kind",
        invoked(written(tmp_path / "empty.jsonl", []), "--kind", "rl"): "holds no row that can be used",
        invoked(written(tmp_path / "other.jsonl", [{"text": "x"}])): "name one with --kind",
        invoked(written(tmp_path / "upi.jsonl", [upi()]), "--kind", "rl"): "looks like UPI rows",
    }
    for done, says in cases.items():
        assert done.exit_code == 1
        assert done.stderr.startswith("error: ")
        assert says in done.stderr
    wrong = invoked(written(tmp_path / "upi.jsonl", [upi()]), "--kind", "else")
    assert wrong.exit_code == 2
    assert "alignxplore" in wrong.stderr


def heldout_row(number: int) -> dict[str, Any]:
    return inference(Pen(random.Random(number), "heldout"), World(), 4, past=False)


def test_sentences_of_made_rows_rest_on_events_and_the_halves_share_nothing(tmp_path: Path):
    path = written(tmp_path / "train.jsonl", [sft_row(number) for number in range(40)])
    held = written(tmp_path / "held.jsonl", [heldout_row(number) for number in range(40)])
    found = json.loads(invoked(path, "--against", held, "--json").stdout)
    origin = found["figures"]["origin"]
    assert origin["backed"] == 1
    assert origin["tasks"] == {"infer": 20, "update": 20}
    assert origin["events"]["comparison"] > 10
    assert found["leaks"] == {"topics": 0, "titles": 0, "phrasings": 0}
    same = json.loads(invoked(path, "--against", path, "--json").stdout)
    assert same["leaks"]["topics"] == origin["topics"] > 10


@pytest.mark.parametrize("change", [{"events": [9]}, {"events": []}, {"text": 'They say: "unheard".'}])
def test_a_sentence_without_its_events_is_counted(tmp_path: Path, change: dict[str, Any]):
    row = heldout_row(1)
    row["origin"]["claims"][0] |= change
    found = json.loads(invoked(written(tmp_path / "rows.jsonl", [row]), "--json").stdout)
    claims = len(row["origin"]["claims"])
    assert found["figures"]["origin"]["backed"] == pytest.approx(1 - 1 / claims)


def test_rows_are_shown_with_the_events_of_each_sentence(tmp_path: Path):
    row = heldout_row(2)
    done = invoked(written(tmp_path / "rows.jsonl", [row, heldout_row(3)]), "--show", "1")
    claim = row["origin"]["claims"][0]
    assert f"{tuple(claim['events'])} {claim['kind']}: {claim['text']}"[:100] in done.stdout
    assert "sentences backed" in done.stdout
