"""A version that predicts worse than the one before it is left behind, by evidence and not by a single miss."""

import random

import pytest

from alignx.schemas.interactions import ComparisonInteraction, Pair
from services.preference.updates.regression import bet, predict_choices
from services.storage.users import encode_interaction
from tests.chaos.mock_engine import Fault, MockEngine
from tests.unit.services.preference.rig import TENANT, USER
from tests.unit.services.preference.working import benched

SHORT = "The user prefers short answers."
LONG = "The user prefers long, detailed answers."
_WORDS = ("plan", "train", "idea", "answer", "data", "method", "code", "cake", "river", "summer", "engine")


def short_choice(source: random.Random) -> ComparisonInteraction:
    few, many = (" ".join(source.choices(_WORDS, k=count)).capitalize() + "." for count in (6, 50))
    return ComparisonInteraction(query="", chosen=few, rejected=many)


def test_a_text_predicts_by_what_it_says() -> None:
    choice = short_choice(random.Random(1))
    pair = Pair("", choice.chosen, choice.rejected)
    assert [predict_choices(text, [[pair]]) for text in (SHORT, LONG, "Nothing is known.")] == [[1.0], [0.0], [0.5]]


@pytest.mark.parametrize("worse", [0.0, 0.2])
def test_the_evidence_is_a_bet_that_a_text_no_worse_wins_rarely(worse: float) -> None:
    """Ville: at most 1 test in 20 ends in error (20 of 400, and three standard deviations); a fall by .2 is found."""
    source = random.Random(3)
    crossed = 0
    for _ in range(400):
        evidence = peak = 0.0
        for _ in range(200):
            old, new = float(source.random() < 0.75), float(source.random() < 0.75 - worse)
            evidence += bet(old, new)
            peak = max(peak, evidence)
        crossed += peak >= 2.996
    assert crossed >= 300 if worse else crossed <= 33


@pytest.mark.anyio
async def test_a_worse_version_is_left_behind_and_a_good_one_is_not(redis_url: str) -> None:
    faults: list[Fault] = []
    mock, source = MockEngine(lambda _: faults.pop() if faults else ""), random.Random(5)

    async def update(reply: str, choices: int, *, is_second_try: bool) -> None:
        mock.scripted.append((reply, "stop"))
        events = [encode_interaction(short_choice(source)) for _ in range(choices)]
        await bench.add(*events)
        if is_second_try:
            faults.append("overloaded")
            assert await bench.try_update() == "engine"
        assert await bench.update() == "committed"

    async with benched(redis_url, mock, summary={"prequential_sample": 0}) as bench:
        for number, (reply, choices) in enumerate([(SHORT, 2), (SHORT, 4), (LONG, 4), (LONG, 5), (SHORT, 5)], 1):
            await update(reply, choices, is_second_try=number == 5)
            version = await bench.store.version(TENANT, USER, number)
        bad = await bench.store.version(TENANT, USER, 4)
        assert bad.regression is not None
        assert (bad.parent, bad.regression.against, bad.regression.choices) == (3, 1, 9)
        assert version.regression is not None
        assert (version.parent, version.regression.against) == (1, 1), "made without the two bad ones"
        assert bench.count("alignx_summary_regressions_total") == 1
        [draft] = await bench.store.rejected(TENANT, USER)
        assert (draft.check, draft.text) == ("regression", LONG)
        assert SHORT in mock.prompts[-1]
        assert LONG not in mock.prompts[-1]
