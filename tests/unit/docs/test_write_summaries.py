import pytest

from docs.write_summaries import PEOPLE, load_history, render_page


@pytest.mark.parametrize("name", PEOPLE)
def test_histories_are_of_ordinary_length_and_dated(name: str) -> None:
    history = load_history(name)
    assert 10 <= len(history) <= 60
    assert all(event.occurred_at for event in history)


def test_all_kinds_of_events_are_told() -> None:
    kinds = {event.type for name in PEOPLE for event in load_history(name)}
    assert len(kinds) == 8


@pytest.mark.parametrize(
    "withheld", ["banco", "Kassel", "hôpital", "patron", "病院", "住所", "妈妈", "زوجتي", "تجاهل", "exam results"]
)
def test_nothing_that_is_withheld_is_told(withheld: str) -> None:
    said = [line for line in render_page().splitlines() if line.startswith("> ")]
    assert not any(withheld in line for line in said)
    assert any(withheld in str(event) for name in PEOPLE for event in load_history(name))
