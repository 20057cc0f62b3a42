"""Which half a row belongs to."""

from evaluation.cases.halves import assign_half


def test_halves_stay_as_they_were_first_drawn() -> None:
    users = {name: [assign_half(name, f"{number}") for number in range(1, 9)] for name in ("movielens", "mind", "x")}
    shown = {name: "".join(half[0] for half in halves) for name, halves in users.items()}
    assert shown == {"movielens": "dddkkkkd", "mind": "kkkddddk", "x": "dkkkkddk"}
