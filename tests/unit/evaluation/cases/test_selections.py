"""Replies as models write them, case by case, and the rules for any text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.cases.selections import KINDS, Selection, parse_selection

A, B = Selection("selected", 0), Selection("selected", 1)

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
    ('{"selection": "Item A"', Selection("malformed")),
    ('{"selection": "Item', Selection("malformed")),
    ("{'selection': 'Item A'}", Selection("malformed")),
    ("{selection: Item A}", Selection("malformed")),
    ('{"selection": Item A}', Selection("malformed")),
    ('{"choice": "Item A"}', Selection("malformed")),
    ('{"Selection": "Item A"}', Selection("malformed")),
    # thinking that never ends within 16 tokens
    ("<think>\nOkay, the user likes tea, so Item A", Selection("thinking")),
    ('<think>{"selection": "Item A"}', Selection("thinking")),
    # a letter that was not on offer
    ('{"selection": "Item C"}', Selection("other")),
    ('{"selection": "Z"}', Selection("other")),
    # both letters
    ('{"selection": "Item A, Item B"}', Selection("both")),
    ('{"selection": "Item A or B"}', Selection("both")),
    ('{"selection": ["Item A", "Item B"]}', Selection("both")),
    ('{"selection": "Item A"} or {"selection": "Item B"}', Selection("both")),
    ('{"selection": "Item A", "selection": "Item B"}', Selection("both")),
    ('{"selection": "A"} {"selection": "neither A nor B"}', Selection("both")),
    # none
    ("", Selection("none")),
    ("Item A", Selection("none")),
    ("The user would choose Item A", Selection("none")),
    ('{"selection": ""}', Selection("none")),
    ('{"selection": null}', Selection("none")),
    ('{"selection": "Item"}', Selection("none")),
    ('{"selection": "Item …"}', Selection("none")),
    ('{"selection": "Item A: green tea"}', Selection("none")),
    ('{"selection": ["Item A"]}', Selection("none")),
    ('{"selection": 1}', Selection("none")),
    ("<think>\n\n</think>\n\n", Selection("none")),
    ("{" * 50_000, Selection("malformed")),
]


@pytest.mark.parametrize(("reply", "chosen"), RECORDED, ids=[repr(reply[:40]) for reply, _ in RECORDED])
def test_a_recorded_reply(reply: str, chosen: Selection) -> None:
    assert parse_selection(reply) == chosen


def test_more_letters_can_be_on_offer() -> None:
    assert parse_selection('{"selection": "Item C"}', "ABC") == Selection("selected", 2)


pieces = st.sampled_from(["{", "}", '"', "selection", ":", " ", "Item", "A", "B", "C", "<think>", "</think>", "[", "]"])
replies = st.text(max_size=80) | st.lists(pieces, max_size=24).map("".join)


@given(replies)
def test_any_reply_is_of_one_kind_and_has_an_option_only_when_selected(reply: str) -> None:
    kind, option = parse_selection(reply)
    assert kind in KINDS
    assert (option in (0, 1)) == (kind == "selected")


@given(replies, st.sampled_from("AB"), st.sampled_from(["", "\n", " So be it"]))
def test_thoughts_and_what_follows_change_nothing(thought: str, letter: str, rest: str) -> None:
    reply = f"<think>{thought}</think>{json.dumps({'selection': f'Item {letter}'})}{rest}"
    assert parse_selection(reply) == Selection("selected", "AB".index(letter))


def swapped(reply: str) -> str:
    return reply.translate(str.maketrans("AB", "BA"))


@given(replies.filter(lambda reply: "item" not in reply.lower()))
def test_the_letters_are_alike(reply: str) -> None:
    there, here = parse_selection(reply), parse_selection(swapped(reply))
    assert here.kind == there.kind
    assert here.option == (None if there.option is None else 1 - there.option)
