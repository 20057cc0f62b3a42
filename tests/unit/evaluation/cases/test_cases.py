"""Users from rows, and their histories flipped and split."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.cases.cases import Case, find_clusters, read_cases
from evaluation.cases.perturbations import flip_choices, split_history
from tests.unit.evaluation.tastes import row, users, write_rows
from training.exceptions import DatasetError


def count_swapped(before: Case, after: Case) -> int:
    pairs = zip(before.history, after.history, strict=True)
    swapped = [
        (now.chosen, now.rejected) == (then.rejected, then.chosen) for then, now in pairs if now.chosen != then.chosen
    ]
    assert all(swapped)
    return len(swapped)


@pytest.mark.parametrize(("count", "share", "wrong"), [(50, 0.3, 180), (7, 0.3, 25), (20, 0.0, 0), (20, 1.0, 240)])
def test_the_flipped_share_is_exact(tmp_path: Path, count: int, share: float, wrong: int) -> None:
    cases = users(tmp_path, count)
    perturbed = flip_choices(cases, share, seed=1)
    counts = [count_swapped(*pair) for pair in zip(cases, perturbed, strict=True)]
    assert sum(counts) == wrong
    assert max(counts) - min(counts) <= 1, "spread evenly over users"
    assert [case.target for case in perturbed] == [case.target for case in cases]
    assert flip_choices(cases, share, seed=1) == perturbed
    assert (flip_choices(cases, share, seed=2) != perturbed) == (0 < share < 1), "another seed flips others"


def test_fewer_users_are_flipped_as_before(tmp_path: Path) -> None:
    cases = users(tmp_path, 10)
    assert flip_choices(cases[:4], 0.3, seed=1) == flip_choices(cases, 0.3, seed=1)[:4]


def test_parts_are_the_history_in_order(tmp_path: Path) -> None:
    (case,) = users(tmp_path, 1)
    first, second = split_history(case, 2)
    assert (len(first), len(second)) == (6, 6)
    assert first + second == case.history
    assert sum(split_history(case, 5), ()) == case.history
    assert [len(part) for part in split_history(case, 20)] == [1] * 12, "no part is empty"


def test_rows_tell_kind_and_summary_where_they_have_them(tmp_path: Path) -> None:
    cases = users(tmp_path, 4)
    assert [case.kind for case in cases] == ["style", "style", "topic", "topic"]
    assert cases[1].truth == "The user likes coffee."
    assert cases[0].target == ("Last drink of 0?", "hot tea", "hot coffee")
    bare, _ = read_cases(write_rows(tmp_path / "bare.jsonl", 2, kind=None, summary=None), limit=1)
    assert [(case.kind, case.truth) for case in bare] == [(None, None)]


def test_a_digest_stands_for_what_the_user_did(tmp_path: Path) -> None:
    cases = users(tmp_path, 3)
    assert len({case.digest for case in cases}) == 3
    renamed, _ = read_cases(write_rows(tmp_path / "renamed.jsonl", 3, userid=None, kind="x"), limit=None)
    assert [case.digest for case in renamed] == [case.digest for case in cases]


def test_malformed_rows_are_counted_and_other_kinds_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([json.dumps(row(0)), json.dumps({"history": [], "target": {}}), json.dumps(row(1))]))
    cases, report = read_cases(path, limit=None)
    assert (len(cases), report.left_out) == (2, 1)
    path.write_text(json.dumps({"prompt": "q", "chosen": "a", "rejected": "b"}))
    with pytest.raises(DatasetError, match="looks like preference pairs"):
        read_cases(path, limit=None)


def test_what_rows_share_is_drawn_together(tmp_path: Path) -> None:
    one, two, three = (replace(case, userid=f"u{place}") for place, case in enumerate(users(tmp_path, 3)))
    assert find_clusters([one, two, three]) is None
    assert find_clusters([one, replace(two, userid="u0"), three]) == ("users", ["u0", "u0", "u2"])
    asked = [replace(case, cluster=text) for case, text in ((one, "why?"), (two, "why?"), (three, "how?"))]
    assert find_clusters(asked) == ("questions", ["why?", "why?", "how?"])
    alone = [replace(case, userid="u") for case in (one, replace(one, digest="of another target"), two)]
    assert find_clusters(alone) == ("histories", [one.history_digest, one.history_digest, two.history_digest])
