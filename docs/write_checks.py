"""Writes docs/reference/reply-checks.md: what each check of a reply refuses and passes, with counts on two sets.

    .venv/bin/python -m docs.write_checks

The sets stand in tests/unit/services/prompts/replies. They were written from the kinds of replies alone, by people who
had not seen the checks. Sets named unseen (bad_unseen.jsonl, good_unseen.jsonl) may stand beside them: mend no check on
those, so that their figures tell how the checks do on new replies. A test compares the page with what this prints.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from services.errors import UnusableReply
from services.prompts.replies.parse_summary import parse_summary
from services.prompts.replies.summary_checks import CHECKS, Check, Evidence

_ROOT: Final = Path(__file__).parent.parent
PAGE: Final = _ROOT / "docs/reference/reply-checks.md"
_ABOUT: Final[dict[Check, str]] = {
    "complete": "the engine stopped by itself, or a whole sentence stands before the token limit",
    "separable": "reasoning can be told from the summary, and the summary is no reasoning itself",
    "control": "no turn of a system, hidden text or control token; what follows the first turn is cut off",
    "shaped": "prose or Markdown, once fences, announcements, tags, JSON and YAML are read; no code, page, tool call",
    "degenerate": "no loop (4-grams, period, compression), no noise (letters, entropy, vowels, encoding)",
    "refusal": "the model does not decline or ask for more in its first words",
    "instruction": "nothing tells the reader, a model, what to do",
    "copied": "no events as the prompt lays them out, and none of the instructions",
    "link": "no address; its sentence is dropped, a name such as Booking.com stays",
    "about": "it speaks of a person or a preference, says something, and shares words with the events or the past",
    "consistent": "no topic is both liked and disliked, listed twice, or claimed again and again",
    "length": "cut to the longest summary at the end of a sentence",
    "sensitive": "no sentence on a subject that the tenant denies and the user did not speak of; it is dropped",
    "pin": "nothing that turns round what the user wrote over the summary",
    "supported": "no claim that the events speak against; if `grounded` is set, topics that events name",
}


def load_replies(name: str) -> list[dict[str, Any]]:
    """The rows of a set: `bad`, `good`, `bad_unseen` or `good_unseen`; none of a set that is not there."""
    path = _ROOT / f"tests/unit/services/prompts/replies/{name}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def judge_reply(row: dict[str, Any]) -> tuple[str, str]:
    """(the summary, "") or ("", the check that refuses the reply)."""
    history = row.get("events") or row.get("history") or []
    evidence = Evidence("\n".join(_texts(history)), row.get("past_summary") or "")
    try:
        reply = parse_summary(row["reply"], max_chars=8_000, finish_reason=row["finish_reason"], evidence=evidence)
    except UnusableReply as error:
        return "", error.reason
    return reply.text, ""


def is_whole(row: dict[str, Any], text: str) -> bool:
    """Whether a good reply's text is what must be kept of it."""
    keep = row.get("keep") or row.get("summary")
    return text == keep if keep is not None else all(part in text for part in row.get("must_contain", ()))


def _texts(value: Any, name: str = "") -> Iterator[str]:
    match value:
        case str() if name not in ("type", "role"):
            yield value
        case dict():
            for key, entry in value.items():
                yield from _texts(entry, key)
        case list():
            for entry in value:
                yield from _texts(entry, name)


def render_page() -> str:
    good = load_replies("good")
    refused = {"bad": _count_refused(load_replies("bad")), "good": _count_refused(good)}
    rows = [f"| `{check}` | {_ABOUT[check]} | {refused['bad'][check]} | {refused['good'][check]} |" for check in CHECKS]
    passed = f"| all passed | | {refused['bad']['']} | {refused['good']['']} |"
    bad_unseen, good_unseen = load_replies("bad_unseen"), load_replies("good_unseen")
    passed_unseen = Counter(row["kind"] for row in bad_unseen if not judge_reply(row)[1])
    unseen = [
        "On replies that the checks were not mended on (`bad_unseen.jsonl`, `good_unseen.jsonl`) they pass "
        f"{passed_unseen.total()} of",
        f"{len(bad_unseen)} bad ones and keep {_count_whole(good_unseen)} of {len(good_unseen)} good ones whole. "
        "Those that pass by kind:",
        ", ".join(f"{kind} {count}" for kind, count in sorted(passed_unseen.items()))
        + ". Of a truncated reply the whole sentences are kept, and",
        "data (`data_format`) become text without their syntax; neither is a fault.",
        "",
    ]
    return "\n".join(
        [
            "# Checks of a reply",
            "",
            "<!-- written by python -m docs.write_checks -->",
            "",
            "A reply of the engine becomes a summary only if it passes these checks, in this order. One that fails is",
            "asked for once more; then the version before it stays current, and the reply is a rejected draft:",
            "`GET /v1/users/{user}/preferences/rejected`, `alignx versions USER --rejected`. Formulas and thresholds",
            "stand in `services/prompts/replies`, words in its `phrases`. A language that they do not list passes",
            "the checks that need words. The checks were tuned on these sets: the counts tell what each does, not how",
            "they do on replies of other origin.",
            "",
            f"Refused of {refused['bad'].total()} bad and {refused['good'].total()} good replies in ten languages; "
            f"{_count_whole(good)} of the good are kept whole:",
            "",
            "| check | passes if | bad | good |",
            "|---|---|---:|---:|",
            *rows,
            passed,
            "",
            *(unseen if bad_unseen and good_unseen else ()),
        ]
    )


def _count_refused(rows: list[dict[str, Any]]) -> Counter[str]:
    """Replies by the check that refuses them; "" counts those that pass."""
    return Counter(judge_reply(row)[1] for row in rows)


def _count_whole(rows: list[dict[str, Any]]) -> int:
    return sum(is_whole(row, judge_reply(row)[0]) for row in rows)


if __name__ == "__main__":
    PAGE.write_text(render_page(), encoding="utf-8")
