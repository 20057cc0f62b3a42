"""The published row formats: what is read, what is let pass, what is refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from alignx.schemas.interactions import ComparisonInteraction, DemographicInteraction, PostInteraction
from tests.unit.training.data.rows import LEANING, alignx, alignxplore, pairs, rl, sft, triple, upi
from training.data.formats import KINDS, AlignXRow, PairRow, RlRow, Row, SftRow, UpiRow, interactions
from training.data.published import kind_of

HISTORY = "Pair-wise Comparative Feedback"
POSTS = "User-Generated Content"
DIRECTION = "Preference Direction"


def test_the_kind_is_that_of_most_rows():
    assert kind_of([rl(), {}, "text", rl(), rl()]) == "rl"
    assert kind_of([{"history": []}, {"text": "x"}]) == "unknown"
    assert kind_of([]) == "unknown"


def test_alignx_history_is_description_posts_choices():
    found = interactions(AlignXRow.model_validate(alignx(3)))
    assert [type(event) for event in found] == [
        DemographicInteraction,
        PostInteraction,
        ComparisonInteraction,
        ComparisonInteraction,
    ]
    first, second = AlignXRow.model_validate(alignx(3)).comparisons()
    assert (first.query, first.chosen, first.rejected) == ("query 1003", "chosen 1003", "rejected 1003")
    assert first.directions == (0.5,) * 90
    assert second.directions is None


def test_alignx_target_carries_the_directions():
    target = AlignXRow.model_validate(alignx(3)).target()
    assert (target.query, target.chosen, target.directions) == ("query 3", "chosen 3", tuple(LEANING))


def test_rl_stages_share_the_history_at_mid_position():
    row = RlRow.model_validate(rl())
    numbers = lambda triples: [item.query.removeprefix("query ") for item in triples]  # noqa: E731
    assert numbers(row.first) == ["0", "1"]
    assert numbers([row.first_target]) == ["2"]
    assert numbers(row.second) == ["2", "3"]
    assert numbers([row.target()]) == ["4"]


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("alignx", {"prompt": "p", "chosen": "a", "rejected": "b"}),
        ("alignx", {**alignx(), DIRECTION: None, POSTS: None, HISTORY: None, "Demographic Information": None}),
        ("alignx", {**alignx(), DIRECTION: []}),
        ("alignx", {**alignx(), DIRECTION: [1] * 90}),
        ("alignx", {**alignx(), POSTS: ["a plain comment", {"comment": None}]}),
        ("alignx", {**alignx(), "rejected": None}),
        ("alignxplore", {**alignxplore(), "history": None}),
        ("sft", {"prompt": "asked", "response": "<think>t</think>s"}),
        ("rl", {**rl(), "uid": 5, "mid_position": 2.0}),
        ("rl", {"history": rl()["history"], "mid_position": 1}),
        ("rl", {**rl(), "mid_position": 3}),
        ("upi", {**upi(), "userid": None}),
        ("upi", {**upi(), "history": [{**triple(1), "query": None}, {"chosen": "a", "rejected": ""}]}),
        ("upi", {**upi(), "history": [triple(1, "prompt")]}),
    ],
)
def test_variants_of_the_published_files_are_read(kind: str, raw: dict[str, Any]):
    row = KINDS[kind].model_validate(raw)
    assert list(row.texts())
    interactions(row)


def test_a_plain_text_is_a_post_and_an_empty_one_no_interaction():
    row = AlignXRow.model_validate({**alignx(), POSTS: ["plain", {"prompt": "under", "comment": ""}]})
    posts = [event for event in interactions(row) if isinstance(event, PostInteraction)]
    assert [(post.prompt, post.text) for post in posts] == [(None, "plain")]


def test_ids_become_text():
    assert RlRow.model_validate({**rl(), "uid": 5}).uid == "5"
    assert UpiRow.model_validate({**upi(), "userid": 0}).userid == "0"


def plain(row: Row) -> dict[str, Any]:
    return row.model_dump(mode="json", exclude_none=True)


def test_plain_prompt_and_response_become_messages():
    row = SftRow.model_validate({"prompt": "asked", "response": "told"})
    prompt, completion = {"role": "user", "content": "asked"}, {"role": "assistant", "content": "told"}
    assert plain(row) == {"prompt": [prompt], "completion": [completion]}


USER, ASSISTANT = {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}
OTHER = {"role": "assistant", "content": "z"}


@pytest.mark.parametrize(
    "raw",
    [
        {"prompt": "x", "chosen": "y", "rejected": "z"},
        {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [OTHER]},
        {"prompt": "x", "chosen": [USER, ASSISTANT], "rejected": [USER, OTHER], "messages": [USER, ASSISTANT]},
        {"prompt": [USER], "chosen": [USER, ASSISTANT], "rejected": [USER, OTHER]},
        {"chosen": [USER, ASSISTANT], "rejected": [USER, OTHER]},
    ],
)
def test_public_forms_of_preference_pairs_are_one_row(raw: dict[str, Any]):
    assert kind_of([raw]) == "pairs"
    row = PairRow.model_validate(raw)
    assert plain(row) == {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [OTHER]}


def test_of_a_conversation_the_last_reply_is_the_completion():
    raw = {"messages": [USER, ASSISTANT, USER, OTHER]}
    assert kind_of([raw]) == "sft"
    assert plain(SftRow.model_validate(raw)) == {"prompt": [USER, ASSISTANT, USER], "completion": [OTHER]}


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("alignx", {**alignx(), "prompt": " "}, "must hold text"),
    ("alignx", {**alignx(), "chosen": "", "rejected": None}, "both empty"),
    ("alignx", {**alignx(), "chosen": "same", "rejected": "same"}, "the same text"),
    ("alignx", {"prompt": "p", "chosen": "a"}, "Field required"),
    ("alignx", {**alignx(), DIRECTION: [0.5] * 89}, "must hold 90 numbers"),
    ("alignx", {**alignx(), DIRECTION: [0.5] * 89 + [1.5]}, "within 0 and 1"),
    ("alignx", {**alignx(), DIRECTION: [0.5] * 89 + [float("nan")]}, "within 0 and 1"),
    ("alignx", {**alignx(), DIRECTION: ["Young"] * 90}, "valid number"),
    ("alignx", {**alignx(), HISTORY: [{**triple(1), DIRECTION: [0.5] * 91}]}, "must hold 90 numbers"),
    ("alignx", {**alignx(), HISTORY: [{"prompt": "p", "chosen": "", "rejected": " "}]}, "both empty"),
    ("alignx", {**alignx(), POSTS: [{"prompt": "no comment"}]}, "Field required"),
    ("alignxplore", {**alignxplore(), "task": ""}, "must hold text"),
    ("alignxplore", {**alignxplore(), "chosen": "same", "rejected": "same"}, "the same text"),
    ("alignxplore", {**alignxplore(), "history": "text"}, "valid tuple"),
    ("sft", {**sft(), "prompt": []}, "the last message must be the user's"),
    ("sft", {**sft(), "prompt": [USER, ASSISTANT]}, "the last message must be the user's"),
    ("sft", {**sft(), "prompt": [{"role": "tool", "content": "x"}, USER]}, "'system', 'user' or 'assistant'"),
    ("sft", {**sft(), "completion": []}, "one message of the assistant"),
    ("sft", {**sft(), "completion": [USER]}, "one message of the assistant"),
    ("sft", {**sft(), "completion": " "}, "must hold text"),
    ("rl", {**rl(), "mid_position": 0}, "mid_position must be above 0"),
    ("rl", {**rl(), "mid_position": 4}, "below the last place of history"),
    ("rl", {**rl(), "mid_position": -1}, "mid_position must be above 0"),
    ("rl", {**rl(), "mid_position": None}, "valid integer"),
    ("rl", {**rl(), "history": rl()["history"][:2], "mid_position": 1}, "at least 3"),
    ("rl", {**rl(), "history": [*rl()["history"], {"chosen": "same", "rejected": "same"}]}, "the same text"),
    ("upi", {**upi(), "history": []}, "at least 1"),
    ("upi", {"userid": "u", "history": [triple(1)]}, "Field required"),
    ("upi", {**upi(), "target": {"query": "q", "chosen": "same", "rejected": "same"}}, "the same text"),
    ("pairs", {**pairs(), "rejected": pairs()["chosen"]}, "the same text"),
    ("pairs", {**pairs(), "chosen": [USER]}, "one message of the assistant"),
    ("pairs", {"chosen": [USER, ASSISTANT], "rejected": [OTHER]}, "the messages before the reply differ"),
    ("pairs", {"prompt": "q", "chosen": [USER, ASSISTANT], "rejected": [USER, OTHER]}, "not those of prompt"),
    ("sft", {"messages": [USER]}, "the last message must be the user's"),
]


@pytest.mark.parametrize(("kind", "raw", "says"), BAD)
def test_a_malformed_row_is_refused_with_its_reason(kind: str, raw: dict[str, Any], says: str):
    with pytest.raises(ValidationError, match=says):
        KINDS[kind].model_validate(raw)
