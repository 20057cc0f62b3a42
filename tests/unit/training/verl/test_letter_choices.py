import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from alignx.schemas.interactions import Pair
from services.engine.client import Server
from services.errors import EngineUnavailable
from tests.unit.training.verl.conftest import CHOSEN, REJECTED, Judge
from training.rl.rewards import judge_choice
from training.verl.letter_choices import UrlLetters, letters_at

TARGET = Pair("Tea or coffee?", CHOSEN, REJECTED)
SUMMARY = "The user likes tea 80 times of 100."


def asked(letters: UrlLetters, *calls: Coroutine[Any, Any, float]) -> list[float]:
    async def ask() -> list[float]:
        try:
            return await asyncio.gather(*calls)
        finally:
            await letters.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("knows_tokens", [True, False])
def test_both_orders_cancel_the_place(judge: Judge, knows_tokens: bool):
    judge.bias, judge.knows_tokens = 1.0, knows_tokens
    letters = UrlLetters(Server(judge.url), connections=4)
    [probability] = asked(letters, judge_choice(letters, SUMMARY, TARGET))
    first, second = 4 * 2.718281828 / (1 + 4 * 2.718281828), 4 / (4 + 2.718281828)
    assert probability == pytest.approx((first + second) / 2)
    assert len(judge.prompts) == 2


def test_a_busy_judge_is_waited_for(judge: Judge):
    judge.failures = 3
    letters = UrlLetters(Server(judge.url, "judge"), connections=1, wait_s=0.001)
    assert asked(letters, judge_choice(letters, SUMMARY, TARGET)) == [pytest.approx(0.8)]


def test_a_judge_that_stays_silent_is_an_error():
    letters = UrlLetters(Server("http://127.0.0.1:9/v1", "judge"), connections=1, wait_s=0.0)
    with pytest.raises(EngineUnavailable, match="does not answer"):
        asked(letters, judge_choice(letters, SUMMARY, TARGET))


def test_a_wrong_url_is_no_reason_to_wait(judge: Judge):
    letters = UrlLetters(Server(judge.url.replace("/v1", "/nowhere/v1"), "judge"), connections=1, wait_s=60.0)
    with pytest.raises(EngineUnavailable, match="404"):
        asked(letters, judge_choice(letters, SUMMARY, TARGET))


def test_the_key_comes_from_the_environment(judge: Judge, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KEY_OF_JUDGE", "secret")
    letters = letters_at(judge.url, "judge", "KEY_OF_JUDGE", 2)
    asked(letters, judge_choice(letters, SUMMARY, TARGET))
    assert {header["Authorization"] for header in judge.headers} == {"Bearer secret"}
    with pytest.raises(EngineUnavailable, match="judge_key_env"):
        letters_at(judge.url, "judge", "NO_SUCH_KEY", 2)


def test_a_process_has_one_client_for_a_judge(judge: Judge):
    assert letters_at(judge.url, None, None, 3) is letters_at(judge.url, None, None, 3)
