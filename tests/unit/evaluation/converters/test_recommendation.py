"""Recommendation benchmarks: the history before a liking, an unseen item against it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from alignx.schemas.interactions import ClickInteraction, PurchaseInteraction, RatingInteraction
from alignx.schemas.items import item_text
from evaluation.cases.benchmark import UNMATCHED, Plan
from evaluation.cases.benchmark_rows import BenchmarkRow
from tests.unit.evaluation.official import (
    RATINGS,
    amazon,
    candidates,
    lines,
    mind,
    ml_1m,
    ml_100k,
    ml_latest_small,
    review,
    run_converter,
)
from training.exceptions import DatasetError

WRITERS: list[tuple[str, Callable[[Path], Path]]] = [
    ("movielens", ml_100k),
    ("movielens", ml_1m),
    ("movielens", ml_latest_small),
    ("amazon", amazon),
]


def ids(row: BenchmarkRow) -> tuple[list[str | None], str | None, str | None]:
    """Of the history, the chosen and the rejected item."""
    history = [event.item.id for event in row.history if isinstance(event, RatingInteraction | PurchaseInteraction)]
    return history, row.target.chosen.id, row.target.rejected.id


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_the_last_liking_is_foreseen_from_what_was_before(name: str, write: Callable[[Path], Path], tmp_path: Path):
    rows, tally = run_converter(name, write(tmp_path))
    assert [row.userid for row in rows] == ["ann", "ben"]
    ann, ben = map(ids, rows)
    assert ann[:2] == (["1", "2"], "3")
    assert ben[:2] == (["2", "1"], "3")
    assert (ann[2], ben[2]) == ("5", ben[2]), "Ann rates 4 later, so it is not unseen"
    assert ben[2] in ("4", "5")
    assert rows[0].popularity == (1, 0), "Ben took 3 before; Cat took 5 only later"
    assert tally.left_out == {"users without a liked item after other events": 1}
    event = rows[0].history[1]
    assert (event.value, event.occurred_at.timestamp() if event.occurred_at else None) == (2, 20)


def test_films_have_title_and_genres(tmp_path: Path):
    rows, _ = run_converter("movielens", ml_100k(tmp_path))
    texts = [item_text(event.item) for event in rows[0].history if isinstance(event, RatingInteraction)]
    assert texts == ["Red Hill (1990) (category: Action)", "Blue Sea (1991) (category: Comedy, Drama)"]
    cafe = [run_converter("movielens", write(tmp_path / write.__name__), Plan(liked=1)) for write in (ml_100k, ml_1m)]
    assert all("Café" in row.line().decode() for rows, _ in cafe for row in rows if row.userid == "ann")


def test_half_stars_are_on_their_own_scale(tmp_path: Path):
    rows, _ = run_converter("movielens", ml_latest_small(tmp_path))
    assert {event.scale for row in rows for event in row.history if isinstance(event, RatingInteraction)} == {(0.5, 5)}


def test_malformed_ratings_are_counted_and_the_first_is_named(tmp_path: Path):
    ml_100k(tmp_path)
    rows = ["\t".join(map(str, row)) for row in RATINGS]
    lines(tmp_path / "u.data", [rows[0], "ann\t2", "ann\t2\tgood\t5", "ann\t2\t9\t5", "ann\t99\t4\t5", *rows[1:]])
    found, tally = run_converter("movielens", tmp_path)
    assert len(found) == 2
    line = tally.summary_line("movielens")
    for part in (
        "read 4 genres, 5 films, 12 ratings",
        "malformed: ratings of other than 4 fields 1",
        "malformed: a rating or a time that is no number 1",
        "malformed: a rating outside 1 to 5 1",
        "ratings of films that are not listed 1",
        "the first malformed: u.data, line 2",
    ):
        assert part in line


@pytest.mark.parametrize(
    ("write", "file", "says"),
    [
        (ml_100k, "u.data", "holds no u.data or ratings.dat or ratings.csv"),
        (ml_100k, "u.item", "holds no u.item"),
        (ml_1m, "movies.dat", "holds no movies.dat"),
    ],
)
def test_a_missing_file_is_named(write: Callable[[Path], Path], file: str, says: str, tmp_path: Path):
    (write(tmp_path) / file).unlink()
    with pytest.raises(DatasetError, match=says):
        run_converter("movielens", tmp_path)


def test_a_table_without_a_column_is_refused(tmp_path: Path):
    lines(ml_latest_small(tmp_path) / "ratings.csv", ["userId,movieId,timestamp", "ann,1,2"])
    with pytest.raises(DatasetError, match=r"ratings\.csv has no column rating"):
        run_converter("movielens", tmp_path)
    lines(candidates(tmp_path) / "Games.test.inter", ["user_id\titem_id", "ann\t1"])
    with pytest.raises(DatasetError, match=r"Games\.test\.inter has no column item_id_list"):
        run_converter("amazon-candidates", tmp_path)


def test_reviews_keep_their_text_and_products_are_cleaned(tmp_path: Path):
    rows, _ = run_converter("amazon", amazon(tmp_path))
    event = rows[0].history[0]
    assert event.review == "On 1\n5 & done"
    assert (event.item.title, event.item.category) == ("Red & White Hill (1990)", "Films, Action")
    assert (event.item.description, event.item.price) == ("All of Red Hill (1990)", "$9.99")


def test_reviews_of_one_day_tell_nothing_of_each_other(tmp_path: Path):
    rows, tally = run_converter("amazon", amazon(tmp_path, [review("ann", product, 5, 10) for product in "123"]))
    assert rows == []
    assert tally.left_out == {"users without a liked item after other events": 1}


def test_repeated_and_malformed_reviews_are_counted(tmp_path: Path):
    reviews = [review(*row) for row in RATINGS]
    amazon(tmp_path, [*reviews, reviews[0], "not JSON", review("ann", "1", 9, 9), review("ann", "99", 5, 9)])
    rows, tally = run_converter("amazon", tmp_path)
    assert len(rows) == 2
    assert tally.left_out["repeated events"] == 1
    assert tally.left_out["malformed: not JSON"] == 1
    assert tally.left_out["reviews of products without a title"] == 1
    assert any("overall" in reason for reason in tally.left_out)


def test_candidates_are_what_the_user_never_took(tmp_path: Path):
    rows, _ = run_converter("amazon-candidates", candidates(tmp_path))
    assert [ids(row) for row in rows] == [
        (["1", "2", "3"], "4", "5"),
        (["2", "3"], "5", ids(rows[1])[2]),
        (["3"], "1", ids(rows[2])[2]),
    ]
    assert ids(rows[1])[2] in ("1", "4")
    assert rows[0].popularity == (0, 0), "targets of others do not count"
    assert rows[2].popularity == (1, 0)
    popular, _ = run_converter("amazon-candidates", tmp_path, Plan(negatives="popular"))
    assert [(row.userid, ids(row)[2]) for row in popular] == [("8", "1"), ("9", "2")], (
        "drawn from the histories of others"
    )
    matched, _ = run_converter("amazon-candidates", tmp_path, Plan(negatives="matched"))
    assert matched
    assert all(row.popularity and row.popularity[0] == row.popularity[1] for row in matched)


def test_the_history_is_cut_to_its_latest_part(tmp_path: Path):
    rows, _ = run_converter("amazon-candidates", candidates(tmp_path), Plan(history=2))
    assert ids(rows[0])[0] == ["2", "3"]


def test_a_click_is_foreseen_among_what_was_shown(tmp_path: Path):
    rows, tally = run_converter("mind", mind(tmp_path))
    assert [row.userid for row in rows] == ["U1", "U2", "U4"]
    shown = {"U1": {"N4", "N5"}, "U2": {"N3"}, "U4": {"N4"}}
    for row in rows:
        assert row.target.rejected.id in shown[row.userid]
    first = rows[0]
    assert [event.clicked.id for event in first.history if isinstance(event, ClickInteraction)] == ["N1", "N2"]
    assert item_text(first.target.chosen) == "Title 3 (category: food) — About 3"
    assert rows[1].popularity == (0, 0), "nobody had clicked anything by 11 o'clock"
    assert rows[2].popularity == (1, 2), "one click on N3, two on N4 by then"
    assert tally.left_out == {
        "impressions of users without a history": 1,
        "impressions without a new article that was clicked": 1,
    }


def test_malformed_impressions_are_counted(tmp_path: Path):
    text = (mind(tmp_path) / "behaviors.tsv").read_text()
    lines(tmp_path / "behaviors.tsv", [*text.splitlines(), "6\tU6", "7\tU7\tyesterday\tN1\tN2-1 N3-0"])
    rows, tally = run_converter("mind", tmp_path)
    assert len(rows) == 3
    assert tally.left_out["malformed: impressions of other than 5 fields"] == 1
    assert tally.left_out["malformed: a time or a mark of another form"] == 1


@pytest.mark.parametrize(
    ("name", "write"), [*WRITERS, ("amazon-candidates", candidates), ("mind", mind)], ids=lambda value: str(value)
)
def test_the_seed_alone_decides_what_is_drawn(name: str, write: Callable[[Path], Path], tmp_path: Path):
    write(tmp_path)
    drawn = [
        [row.line() for row in run_converter(name, tmp_path, Plan(seed=seed))[0]] for seed in (1, 1, *range(2, 12))
    ]
    assert drawn[0] == drawn[1]
    assert any(lines_of != drawn[0] for lines_of in drawn)


def test_a_target_that_stands_in_the_history_is_left_out_and_counted(tmp_path: Path):
    candidates(tmp_path)
    text = (tmp_path / "Games.test.inter").read_text()
    (tmp_path / "Games.test.inter").write_text(text.rstrip("\n") + "\n10\t1 2\t2\n")
    with (tmp_path / "Games.random").open("a") as lists:
        lists.write("\n10\t4 5\n")
    rows, tally = run_converter("amazon-candidates", tmp_path)
    assert [row.userid for row in rows] == ["7", "8", "9"]
    assert tally.left_out == {"users whose target stands in their history": 1}


def test_an_impression_without_an_article_as_popular_is_left_out_and_counted(tmp_path: Path):
    rows, tally = run_converter("mind", mind(tmp_path), Plan(negatives="matched"))
    assert all(row.popularity and row.popularity[0] == row.popularity[1] for row in rows)
    assert [row.userid for row in rows] == ["U1", "U2"], "of U4 one article had one click, the other two"
    assert tally.left_out[UNMATCHED] == 1
