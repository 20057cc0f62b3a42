"""Replies as models write them, case by case, and the rules for any text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.cases.selections import parse_selection

A, B = 0, 1

RECORDED = [
    ('{"selection": "Item A"}', A),
    ('{"selection": "Item B"}', B),
    ('  {"selection":"item b"}\n', B),
    ('{"selection": "A"}', A),
    ('{"selection": "ItemB"}', B),
    ('{\n  "selection": "Item A",\n  "why": "tea, not B"\n}', A),
    ('```json\n{"selection": "Item B"}\n```', B),
    ('The user would take {"selection": "Item A"}.', A),
    ('{"selection": "Item A"}\n{"selection": "Item A"}', A),
    ('{"reason": "Item B is long"} {"selection": "Item A"}', A),
    ("<think>\n\n</think>\n\n" + '{"selection": "Item B"}', B),
    ('<think>Perhaps {"selection": "Item A"}?</think>{"selection": "Item B"}', B),
    ('Hm.</think>{"selection": "Item A"}', A),
    # malformed JSON
    ('{"selection": "Item A"', None),
    ('{"selection": "Item', None),
    ("{'selection': 'Item A'}", None),
    ("{selection: Item A}", None),
    ('{"selection": Item A}', None),
    ('{"choice": "Item A"}', None),
    ('{"Selection": "Item A"}', None),
    # thinking that never ends within 16 tokens
    ("<think>\nOkay, the user likes tea, so Item A", None),
    ('<think>{"selection": "Item A"}', None),
    # a letter that was not on offer
    ('{"selection": "Item C"}', None),
    ('{"selection": "Z"}', None),
    # both letters
    ('{"selection": "Item A, Item B"}', None),
    ('{"selection": "Item A or B"}', None),
    ('{"selection": ["Item A", "Item B"]}', None),
    ('{"selection": "Item A"} or {"selection": "Item B"}', None),
    ('{"selection": "Item A", "selection": "Item B"}', None),
    ('{"selection": "A"} {"selection": "neither A nor B"}', None),
    # none
    ("", None),
    ("Item A", None),
    ("The user would choose Item A", None),
    ('{"selection": ""}', None),
    ('{"selection": null}', None),
    ('{"selection": "Item"}', None),
    ('{"selection": "Item …"}', None),
    ('{"selection": "Item A: green tea"}', None),
    ('{"selection": ["Item A"]}', None),
    ('{"selection": 1}', None),
    ("<think>\n\n</think>\n\n", None),
    ("{" * 50_000, None),
]


@pytest.mark.parametrize(("reply", "chosen"), RECORDED, ids=[repr(reply[:40]) for reply, _ in RECORDED])
def test_a_recorded_reply(reply: str, chosen: int | None) -> None:
    assert parse_selection(reply) == chosen


def test_more_letters_can_be_on_offer() -> None:
    assert parse_selection('{"selection": "Item C"}', "ABC") == 2


pieces = st.sampled_from(["{", "}", '"', "selection", ":", " ", "Item", "A", "B", "C", "<think>", "</think>", "[", "]"])
replies = st.text(max_size=80) | st.lists(pieces, max_size=24).map("".join)


@given(replies)
def test_any_reply_selects_what_was_on_offer_or_nothing(reply: str) -> None:
    assert parse_selection(reply) in (A, B, None)


@given(replies, st.sampled_from("AB"), st.sampled_from(["", "\n", " So be it"]))
def test_thoughts_and_what_follows_change_nothing(thought: str, letter: str, rest: str) -> None:
    reply = f"<think>{thought}</think>{json.dumps({'selection': f'Item {letter}'})}{rest}"
    assert parse_selection(reply) == "AB".index(letter)


def swapped(reply: str) -> str:
    return reply.translate(str.maketrans("AB", "BA"))


@given(replies.filter(lambda reply: "item" not in reply.lower()))
def test_the_letters_are_alike(reply: str) -> None:
    there, here = parse_selection(reply), parse_selection(swapped(reply))
    assert here == (None if there is None else 1 - there)
