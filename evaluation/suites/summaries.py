"""What a checkpoint writes for held-out users of the world, sentence by sentence against their events.

    python -m evaluation.suites.summaries evaluation/configs/summaries.toml model=var/train/small/sft

Each reply passes the checks of serving. The topics and manners that are left are compared with what the teacher finds
in the same events.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

import orjson

from alignx.schemas.interactions import Interaction
from evaluation.scoring.intervals import estimate
from services.errors import UnusableReply
from services.prompts.build import plain_history, update_prompt
from services.prompts.replies.parse_summary import parse_summary
from services.prompts.replies.summary_checks import Evidence
from training.config import PositiveInt, Section, run_script
from training.corpus import teacher
from training.corpus.lexicon import Pen, topics
from training.corpus.personas import POLES, pole_words
from training.corpus.world_rows import PAST_TOKENS, World
from training.data.whole_file import replace_file
from training.rl.rewards import SUMMARY_CHARS, well_formed
from training.speed.local_engine import LocalEngine

WORLD: Final = World(noise=0.3, drift=0.2, foreign=0.15)


class SummariesConfig(Section):
    stage: Literal["summaries"]
    model: Path
    users: PositiveInt = 400
    length: tuple[PositiveInt, PositiveInt] = (1, 8)
    """Fewest and most events of a user."""
    new_tokens: PositiveInt = 480
    seed: int = 0
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    shown: int = 20
    """Summaries in the report."""
    output: Path
    """A JSON file with the figures, and beside it a Markdown file with summaries."""


@dataclass(frozen=True)
class HeldOutUser:
    """A held-out user, and what the teacher says of them."""

    events: tuple[Interaction, ...]
    target: str
    names: frozenset[str]
    """Topics of the world and poles of style in the findings."""


@dataclass(frozen=True)
class Outcome:
    """One reply: the check that refused it, and the names in its summary."""

    refused: str
    text: str
    right: int = 0
    wrong: int = 0
    missed: int = 0


def make_users(config: SummariesConfig) -> Iterator[HeldOutUser]:
    for number in range(config.users):
        pen = Pen(Random(f"reader {config.seed} {number}"), "heldout")
        shown = WORLD.events(pen, WORLD.person(pen), pen.rng.randint(*config.length))
        findings = teacher.infer(shown).findings
        names = frozenset(name for finding in findings for name in finding.names if name in topics() or name in POLES)
        target = teacher.text_of(teacher.say(pen, findings, len(shown)))
        yield HeldOutUser(tuple(event.interaction for event in shown), target, names)


def judge_reply(user: HeldOutUser, reply: str) -> Outcome:
    """What serving would make of a reply, and how true it is."""
    if not well_formed(reply):
        return Outcome("form", reply)
    evidence = Evidence(plain_history(user.events))
    try:
        text = parse_summary(reply, max_chars=SUMMARY_CHARS, evidence=evidence).text
    except UnusableReply as error:
        return Outcome(error.reason, reply)
    named = _names_in(text)
    right = len(named & user.names)
    return Outcome("", text, right, len(named) - right, len(user.names) - right)


@cache
def _phrases() -> tuple[dict[str, str], re.Pattern[str]]:
    """What names each topic and each pole of style, in small letters, and a pattern of all."""
    names = {name.lower(): name for name in topics()}
    names |= {phrase.lower(): pole for pole in POLES for phrase in pole_words(pole)["that"]}
    longest_first = sorted(names, key=len, reverse=True)
    return names, re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b")


def _names_in(text: str) -> set[str]:
    """What a text names outside quotations."""
    names, pattern = _phrases()
    return {names[match] for match in pattern.findall(re.sub(r'"[^"]*"', "", text).lower())}


def summaries(config: SummariesConfig) -> dict[str, Any]:
    """Measures a checkpoint's summaries and writes the report."""
    users = list(make_users(config))
    engine = LocalEngine.load(config.model, dtype=config.dtype)
    prompts = [update_prompt(None, user.events, past_tokens=PAST_TOKENS).messages for user in users]
    started = time.monotonic()
    replies = engine.generate(prompts, max_new_tokens=config.new_tokens, temperature=0)
    seconds = time.monotonic() - started
    outcomes = [judge_reply(user, reply) for user, reply in zip(users, replies, strict=True)]
    figures = {"model": str(config.model), "users": len(users), "seconds": round(seconds)} | measure(outcomes)
    with replace_file(config.output) as file:
        file.write(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    with replace_file(config.output.with_suffix(".md")) as file:
        file.write("\n".join(_show(users[: config.shown], outcomes)).encode())
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    return figures


def measure(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Shares with their intervals: replies that are whole, names in them that are true, and true names in them.

    The names of one reply depend on each other, so the intervals draw whole users.
    """
    return {
        "whole": _share([[float(not outcome.refused)] for outcome in outcomes]),
        "refused": dict(Counter(outcome.refused for outcome in outcomes if outcome.refused)),
        "true names": _share([[1.0] * outcome.right + [0.0] * outcome.wrong for outcome in outcomes]),
        "found names": _share([[1.0] * outcome.right + [0.0] * outcome.missed for outcome in outcomes]),
    }


def _share(by_user: Sequence[Sequence[float]]) -> dict[str, float] | None:
    values = [value for own in by_user for value in own]
    if not values:
        return None
    share = estimate(values, clusters=[user for user, own in enumerate(by_user) for _ in own])
    return {"mean": round(share.mean, 4), "low": round(share.low, 4), "high": round(share.high, 4), "n": share.rows}


def _show(users: Sequence[HeldOutUser], outcomes: Sequence[Outcome]) -> Iterator[str]:
    for number, (user, outcome) in enumerate(zip(users, outcomes, strict=False), start=1):
        refused = f", refused: {outcome.refused}" if outcome.refused else ""
        yield f"## {number}: {len(user.events)} events{refused}\n"
        yield f"Written: {outcome.text}\n\nTeacher: {user.target}\n"


def main(arguments: Sequence[str] | None = None) -> None:
    run_script(SummariesConfig, summaries, arguments)


if __name__ == "__main__":
    main()
