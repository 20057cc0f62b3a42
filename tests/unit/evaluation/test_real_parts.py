"""Converters on slices of real public data."""

from pathlib import Path

import pytest

from alignx.schemas.items import item_text
from evaluation.cases.benchmark import Plan
from evaluation.cases.benchmark_rows import BenchmarkRow
from tests.unit.evaluation.official import run_converter

SECRETS = (
    "high extraversion",
    "generate a response in an unfriendly manner",
    "generate a response that only a phd student in that specific field could understand",
)
"""Of the profiles and the true personas of P-Soups."""
SHARED_DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


@pytest.fixture(scope="module")
def data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is absent: this test reads real public data that is not part of the project")
    return SHARED_DATA


def popularity_wins(rows: list[BenchmarkRow]) -> float:
    pairs = [row.popularity for row in rows if row.popularity]
    return sum((chosen > rejected) + 0.5 * (chosen == rejected) for chosen, rejected in pairs) / len(pairs)


def sliced(source: Path, folder: Path, **counts: int) -> Path:
    """The first lines of some files of a folder; the others whole."""
    for file in source.iterdir():
        text = file.read_bytes()
        if (count := counts.get(file.name.replace(".", "_"))) is not None:
            text = b"".join(text.splitlines(keepends=True)[:count])
        (folder / file.name).write_bytes(text)
    return folder


def test_movielens(data: Path, tmp_path: Path):
    rows, tally = run_converter("movielens", sliced(data / "movielens" / "ml-100k", tmp_path, u_data=20_000))
    assert (tally.read["ratings"], tally.read["films"]) == (20_000, 1_682)
    assert len(rows) > 400
    assert sum(tally.left_out.values()) < 30
    assert popularity_wins(rows) > 0.7
    popular, _ = run_converter("movielens", tmp_path, Plan(negatives="popular"))
    assert 0.4 < popularity_wins(popular) < 0.6, "popularity tells little of a negative drawn by it"
    matched, _ = run_converter("movielens", tmp_path, Plan(negatives="matched"))
    assert 0.45 < popularity_wins(matched) < 0.55, "popularity tells nothing of a negative that is as popular"
    for row in rows:
        times = [event.occurred_at for event in row.history]
        assert times == sorted(times, key=lambda time: time.timestamp() if time else 0)
        assert len(row.history) <= 50


def test_amazon_reviews(data: Path):
    rows, tally = run_converter("amazon", data / "amazon" / "gift_cards")
    assert (tally.read["reviews"], tally.left_out["repeated events"]) == (2_972, 3)
    assert len(rows) == 310
    assert not any(reason.startswith("malformed") for reason in tally.left_out)
    assert sum("review" in event.model_dump(exclude_none=True) for row in rows for event in row.history) > 1_000
    for row in rows:
        texts = {item_text(event.item) for event in row.history if event.type == "rating"}
        assert item_text(row.target.rejected) not in texts or "Gift Card" in item_text(row.target.rejected)


def test_amazon_candidates(data: Path, tmp_path: Path):
    counts = {"Games-6k_test_inter": 501}
    rows, tally = run_converter("amazon-candidates", sliced(data / "amazon" / "games", tmp_path, **counts))
    assert (len(rows), tally.read["users"], tally.read["items"]) == (500, 500, 16_859)
    assert not tally.left_out


def test_mind(data: Path, tmp_path: Path):
    rows, tally = run_converter("mind", sliced(data / "mind", tmp_path, behaviors_tsv=400))
    assert (tally.read["impressions"], tally.read["articles"]) == (400, 51_282)
    assert len(rows) == 400 - sum(tally.left_out.values()) > 370
    assert not any(reason.startswith("malformed") for reason in tally.left_out)
    for row in rows:
        taken = {item_text(event.clicked) for event in row.history if event.type == "click"}
        assert item_text(row.target.chosen) not in taken


def test_psoups(data: Path):
    rows, tally = run_converter("psoups", data / "psoups")
    assert [sum(row.kind == kind for row in rows) for kind in ("style", "expertise")] == [298, 298]
    assert tally.left_out == {
        "pairs that quote a true persona": 203,
        "rows whose target quotes a true persona": 1,
        "rows whose target stands in their history": 3,
    }
    text = "".join(row.line().decode() for row in rows).casefold()
    for secret in SECRETS:
        assert secret not in text
    assert {len(row.history) for row in rows} <= {1, 2, 3, 4}


def test_prefeval(data: Path):
    rows, tally = run_converter("prefeval", data / "prefeval")
    assert not tally.left_out
    assert [sum(row.kind == kind for row in rows) for kind in ("explicit", "choice", "persona")] == [505] * 3
    stated = {row.userid: row.history[0].text for row in rows if row.history[0].type == "statement"}
    quoting = [row.kind for row in rows if row.kind != "explicit" and stated[row.userid] in row.line().decode()]
    assert len(quoting) <= 30, "the published conversations, in which 30 users say the sentence itself"
    assert "choice" not in quoting


def test_personamem(data: Path):
    rows, tally = run_converter("personamem", data / "personamem")
    assert (len(rows), tally.read["contexts"]) == (17, 2)
    assert not tally.left_out
    text = "".join(row.line().decode() for row in rows)
    assert "Current user persona" not in text
    assert "Gender Identity" not in text
    assert {len(row.history) for row in rows} == {5}, "each system message starts a conversation"
    assert sorted(len(row.others) for row in rows) == [1, *[2] * 16], "one question has its right option twice"
