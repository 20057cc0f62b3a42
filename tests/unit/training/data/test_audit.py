"""Each figure and each warning, on rows made to show it; and none on rows that are well."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.training.data.rows import LEANING, MAKERS, NEUTRAL, alignx, pairs, rl, sft, triple, upi
from training.data.audit import Quality
from training.data.formats import KINDS

HISTORY = "Pair-wise Comparative Feedback"
POSTS = "User-Generated Content"
DIRECTION = "Preference Direction"
ROWS = range(40)


def looked_at(kind: str, rows: Sequence[dict[str, Any]]) -> Quality:
    quality = Quality()
    for row in rows:
        quality.add(KINDS[kind].model_validate(row))
    return quality


def even(kind: str, number: int) -> dict[str, Any]:
    """A row whose chosen text is the longer one in every second case."""
    row = MAKERS[kind](number)
    at = row["history"][-1] if kind in ("rl", "behaviours") else row["target"] if kind == "upi" else row
    if kind == "pairs":
        row["chosen" if number % 2 else "rejected"][0]["content"] += " and more of the same"
    elif kind != "sft":
        at["chosen" if number % 2 else "rejected"] += " and more of the same"
    if kind == "sft":
        row["prompt"][0]["content"] = "Write a summary."
    if kind == "pairs":
        row["prompt"].insert(0, {"role": "system", "content": "Answer."})
    return row


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@pytest.mark.parametrize("kind", KINDS)
def test_good_rows_give_no_warning(kind: str):
    quality = looked_at(kind, [even(kind, number) for number in ROWS])
    assert quality.warnings() == []
    found = quality.figures()
    assert (found.rows, found.duplicates, found.duplicates_exact) == (40, 0.0, True)
    assert found.chosen_longer == (None if kind in ("sft", "behaviours") else 0.5)


def test_lengths_and_places_of_rl_rows():
    found = looked_at("rl", [{**even("rl", number), "mid_position": 1 + number % 3} for number in ROWS]).figures()
    assert found.spreads["history"].mean == 4
    assert (found.spreads["mid_position"].least, found.spreads["mid_position"].most) == (1, 3)
    assert found.spreads["mid_position / history"].most == pytest.approx(3 / 5)
    only = looked_at("upi", [{"history": [triple(1)], "target": triple(2)}]).figures().spreads
    assert only["characters"].mean == 2 * len("query 1chosen 1rejected 1")


def test_directions_are_covered():
    rows = [{**even("alignx", number), DIRECTION: LEANING if number < 30 else None} for number in ROWS]
    rows += [{**even("alignx", 100 + number), DIRECTION: NEUTRAL} for number in range(2)]
    quality = looked_at("alignx", rows)
    directions = quality.figures().directions
    assert directions is not None
    assert (directions.rows, directions.all_neutral) == (32, 2)
    assert directions.never_set == list(range(2, 90))
    assert directions.values == {"0": 30, "0.5": 30 * 88 + 2 * 90, "1": 30}
    assert directions.per_row is not None
    assert (directions.per_row.least, directions.per_row.most) == (0, 2)
    assert [warning.split(":")[0] for warning in quality.warnings()] == [
        "2 rows (6.2%) have neutral directions only",
        "10 rows have no directions, 32 have them",
    ]


def test_dimensions_that_no_row_sets_are_warned_of_in_a_large_file():
    quality = looked_at("alignx", [even("alignx", number) for number in range(1000)])
    assert quality.warnings() == ["88 of 90 dimensions are neutral in every row"]


def film(number: int) -> dict[str, Any]:
    """An SFT row after a preparation that overwrites queries."""
    events = f"<event><query>Which film?</query><chosen>film {number}</chosen></event>" * 3
    return {**sft(number), "prompt": [message("system", "s"), message("user", events)]}


def published(number: int) -> dict[str, Any]:
    text = f"1. *Query:*\nWhich film?\n\n*Chosen:*\nfilm {number}\n\n*Rejected:*\nx\n\n"
    text += f"2. *Post:*\nWhich film?\n\n*Chosen:*\nfilm {number + 1}\n\n*Rejected:*\nx\n\n"
    return {**sft(number), "prompt": [message("system", "s"), message("user", text)]}


LETTERS = [
    {**even("pairs", n), "chosen": [message("assistant", "B")], "rejected": [message("assistant", "A")]} for n in ROWS
]
SAME_HISTORY = even("alignx", 0)[HISTORY]
CASES: dict[str, tuple[str, list[dict[str, Any]], str]] = {
    "queries overwritten, our prompts": ("sft", [film(n) for n in ROWS], "100% of the queries are one and the same"),
    "queries overwritten, published": ("sft", [published(n) for n in ROWS], "100% of the queries are one and the same"),
    "queries overwritten, triples": (
        "upi",
        [
            {"history": [{**triple(n), "query": "film?"}], "target": {**even("upi", n)["target"], "query": "film?"}}
            for n in ROWS
        ],
        "100% of the queries are one and the same",
    ),
    "one letter": ("pairs", LETTERS, "100% of the letter replies are the same letter"),
    "longer wins": (
        "upi",
        [{**upi(n), "target": {"chosen": f"{n} long", "rejected": "s"}} for n in ROWS],
        "length alone",
    ),
    "shorter wins": (
        "upi",
        [{**upi(n), "target": {"chosen": "s", "rejected": f"{n} lo"}} for n in ROWS],
        "in 0% of the",
    ),
    "duplicates": ("upi", [even("upi", n // 4) for n in ROWS], "75.0% of the rows are duplicates"),
    "comparisons left over": (
        "alignx",
        [{**even("alignx", n), HISTORY: SAME_HISTORY if 5 <= n < 9 else even("alignx", n)[HISTORY]} for n in ROWS],
        "3 rows (7.5%) repeat a part of the history of the row before",
    ),
    "posts left over": (
        "alignx",
        [{**even("alignx", n), POSTS: ["the same"] if n < 5 else []} for n in ROWS],
        "4 rows (10.0%) repeat a part of the history of the row before",
    ),
    "history left over, other user": (
        "upi",
        [{**even("upi", n), "history": [triple(n // 2)]} for n in ROWS],
        "20 rows (50.0%) repeat a part of the history of the row before",
    ),
    "history left over, prompts": (
        "pairs",
        [
            {
                **even("pairs", n),
                "prompt": [
                    message("system", "s"),
                    message("user", f"{n // 2}"),
                    message("assistant", "U"),
                    message("user", f"ask {n}"),
                ],
            }
            for n in ROWS
        ],
        "20 rows (50.0%) repeat a part of the history of the row before",
    ),
    "target in history": (
        "upi",
        [{**even("upi", n), "history": [even("upi", n)["target"], triple(n + 500)]} for n in ROWS],
        "40 rows (100.0%) hold their own target",
    ),
    "equal texts": (
        "upi",
        [{**even("upi", n), "history": [{"query": f"{n}", "chosen": "a", "rejected": "a"}]} for n in ROWS],
        "40 rows (100.0%) hold a choice between two equal texts",
    ),
    "too long, prompt": (
        "sft",
        [{**sft(n), "prompt": [message("system", "s"), message("user", f"{n} word " * 8192)]} for n in ROWS],
        "40 rows (100.0%) may be longer than 8192 tokens",
    ),
    "too long, history": (
        "rl",
        [
            {**even("rl", n), "history": [{**triple(n), "query": "word " * 8192}, *even("rl", n)["history"]]}
            for n in ROWS
        ],
        "40 rows (100.0%) may be longer than 8192 tokens",
    ),
    "no system": ("pairs", [pairs(n) for n in ROWS], "40 rows (100.0%) have no system message"),
    "no thinking": ("sft", [{**sft(n), "completion": f"Likes {n}."} for n in ROWS], "without </think>"),
    "no summary": ("sft", [{**sft(n), "completion": f"<think>{n}</think>"} for n in ROWS], "holds no summary"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_trap_is_warned_of(case: str):
    kind, rows, says = CASES[case]
    warnings = looked_at(kind, rows).warnings()
    assert any(says in warning for warning in warnings), warnings


def test_several_rows_of_one_user_are_no_leftovers():
    rows = [{**even("upi", n), "userid": f"u{n // 4}", "history": [triple(n // 4)]} for n in ROWS]
    assert looked_at("upi", rows).warnings() == []


def test_nothing_known_is_no_leftover():
    rows = [{**even("alignx", n), HISTORY: [], POSTS: [], "Demographic Information": ""} for n in ROWS]
    assert looked_at("alignx", rows).warnings() == []


def test_letters_are_counted_and_words_are_not():
    replies = ["A", "b.", "Item C", '{"selection": "Item D"}', "An answer", "I would", "Option A"]
    rows = [{**sft(n), "completion": f"<think>t</think>\n{reply}"} for n, reply in enumerate(replies)]
    assert looked_at("sft", rows).figures().letters == {"A": 2, "B": 1, "C": 1, "D": 1}


def test_a_handful_of_rows_warns_of_nothing():
    assert looked_at("pairs", [pairs(n) for n in range(5)]).warnings() == []


def test_the_same_history_cut_elsewhere_is_no_duplicate():
    rows = [{**rl(0), "mid_position": place} for place in (1, 2, 3)]
    assert looked_at("rl", rows).figures().duplicates == 0
    assert looked_at("alignx", [alignx(0)] * 3).figures().duplicates == pytest.approx(2 / 3)
