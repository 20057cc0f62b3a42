"""The win rate of two models, with a judge of rules and with random checkpoints."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evaluation.family.win_rate import WinRate, app, compare
from evaluation.models import Sampling
from evaluation.scoring.answers import LOSS, WIN, Comparison
from tests.unit.evaluation.tastes import RuleModel, local_model
from tests.unit.training.nano import write_nano
from training.data.formats import AlignXRow

ROW = {
    "prompt": "Which drink?",
    "chosen": "tea",
    "rejected": "coffee",
    "profile": "A secret persona.",
    "Pair-wise Comparative Feedback": [{"prompt": "And you?", "chosen": "one who likes tea", "rejected": "no"}],
}


def test_a_win_counts_one_and_a_tie_a_half_in_both_orders() -> None:
    row, engine = AlignXRow.model_validate(ROW), RuleModel()
    first = ["hot tea", "hot coffee", "milk", "same", "", "milk"]
    second = ["hot coffee", "hot tea", "water", "same", "milk", ""]
    with local_model(engine) as judging:
        scores = asyncio.run(compare([row] * 6, [first, second], judging))
    assert [score.value for score in scores] == [1.0, 0.0, 0.5, 0.5, 0.0, 1.0]
    assert len(engine.chosen) == 4, "both orders of two pairs; the other pairs have the same prompts or need none"
    leaning = scores[2].position_bias
    assert leaning == pytest.approx(0.1225, abs=1e-3), "a judge that leans to the first place makes a tie"
    assert "secret" not in "".join(engine.chosen)


@pytest.mark.filterwarnings("ignore")
def test_the_command_compares_two_checkpoints_and_resumes(tmp_path: Path) -> None:
    model = str(write_nano(tmp_path / "model", hidden=16, spread=0.2))
    (tmp_path / "rows.json").write_text(json.dumps([ROW, {**ROW, "prompt": "Which cup?"}]), encoding="utf-8")
    out = tmp_path / "win.json"
    arguments = [str(tmp_path / "rows.json"), model, model, "--judge", model, "--out", str(out)]
    for _ in range(2):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert WinRate.read_from(out).ties == 2, "one model against itself"
    refused = CliRunner().invoke(app, [*arguments, "--mode", "pba"])
    assert refused.exit_code == 1
    assert "no row shows anything of its user in mode pba" in refused.output


@pytest.mark.filterwarnings("ignore")
def test_rows_of_one_question_are_drawn_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def compare_by_question(rows: list[AlignXRow], *_: object) -> list[Comparison]:
        return [Comparison(WIN if row.prompt == ROW["prompt"] else LOSS, None) for row in rows]

    monkeypatch.setattr("evaluation.family.win_rate.compare", compare_by_question)
    monkeypatch.setattr("evaluation.family.win_rate.ANSWER", Sampling(max_tokens=1, thinking=False))
    model = str(write_nano(tmp_path / "model", hidden=16, spread=0.2))
    rows = [{**ROW, "prompt": question} for question in (ROW["prompt"], "Which cup?") for _ in range(20)]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    out = tmp_path / "win.json"
    result = CliRunner().invoke(app, [str(tmp_path / "rows.json"), model, model, "--judge", model, "--out", str(out)])
    assert result.exit_code == 0, result.output
    score = WinRate.read_from(out).score
    assert (score.mean, score.low, score.high, score.rows) == (0.5, 0.0, 1.0, 40), "two questions, not 40 rows"
