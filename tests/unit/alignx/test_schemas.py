"""The vocabulary: what each event shows, how an item reads, and what is refused, in which words."""

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from alignx.schemas.forgetting import ForgetRequest
from alignx.schemas.interactions import (
    INTERACTION,
    INTERACTION_TYPES,
    Interaction,
    InteractionBase,
    Pair,
    RatingInteraction,
)
from alignx.schemas.items import Item, ItemFields, UserId, item_text
from alignx.schemas.requests import EditRequest, EventsRequest, RecommendRequest, SelectRequest
from alignx.schemas.tenants import KeyRequest, RotateRequest
from alignx.schemas.webhooks import WebhookChange, WebhookRotation
from services.profile.fold import fold
from services.profile.statistics import Profile
from services.prompts.build import interaction_lines

EXAMPLES = Path(__file__).parents[3] / "examples"
PEN, INK = {"title": "Pen"}, {"title": "Ink", "price": 3}


def read(**fields: Any) -> Interaction:
    return INTERACTION.validate_python(fields)


def refusal(model: Any, **fields: Any) -> tuple[tuple[int | str, ...], str]:
    """Place and message of the one error that `model` finds in `fields`."""
    adapter: TypeAdapter[Any] = model if isinstance(model, TypeAdapter) else TypeAdapter(model)
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python(fields)
    (error,) = caught.value.errors()
    return error["loc"], error["msg"].removeprefix("Value error, ")


# --- what an event shows -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "pairs"),
    [
        ({"type": "comparison", "query": "q", "chosen": "a", "rejected": "b"}, [Pair("q", "a", "b")]),
        ({"type": "comparison", "chosen": "a", "rejected": ""}, [Pair("", "a", "")]),
        ({"type": "click", "query": "q", "clicked": "a", "shown": ["b", "a", "c"]}, [("q", "a", "b"), ("q", "a", "c")]),
        ({"type": "click", "clicked": PEN, "shown": [PEN]}, []),
        ({"type": "click", "clicked": "a"}, []),
        ({"type": "purchase", "item": "a", "considered": ["a", "b"]}, [("", "a", "b")]),
        ({"type": "purchase", "item": PEN, "considered": [INK]}, [("", ItemFields(**PEN), ItemFields(**INK))]),
        ({"type": "rating", "item": "a", "value": 5}, []),
        ({"type": "post", "text": "t"}, []),
        ({"type": "dialogue", "messages": [{"role": "user", "content": "hi"}]}, []),
        ({"type": "demographic", "text": "t"}, []),
        ({"type": "statement", "text": "t"}, []),
    ],
)
def test_pairs_are_the_choices_an_event_shows_by_itself(fields: dict[str, Any], pairs: list[Any]) -> None:
    assert list(read(**fields).pairs()) == pairs


@pytest.mark.parametrize(
    ("value", "scale", "liking"),
    [(1, (1, 5), -1), (3, (1, 5), 0), (5, (1, 5), 1), (0, (-2, 2), 0), (75, (0, 100), 0.5)],
)
def test_liking_is_the_rating_between_minus_one_and_one(
    value: float, scale: tuple[float, float], liking: float
) -> None:
    assert RatingInteraction(item="a", value=value, scale=scale).liking == liking


def test_the_types_are_those_of_the_union() -> None:
    union, _ = get_args(Interaction)
    assert {kind.model_fields["type"].default for kind in get_args(union)} == INTERACTION_TYPES
    assert all(issubclass(kind, InteractionBase) for kind in get_args(union))


# --- how an item reads -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("a text", "a text"),
        ({"id": "7", "title": " Pen "}, "Pen"),
        ({"title": "Pen", "description": "blue"}, "Pen — blue"),
        (
            {"title": "Pen", "category": "desk", "price": 3, "description": "blue"},
            "Pen (category: desk; price: 3.0) — blue",
        ),
        ({"title": "Pen", "popularity": 153, "Popularity": 9}, "Pen"),  # part of the score alone
        ({"title": "Pen", "price": "3 €", "brand": None, "tags": [], "note": ""}, "Pen (price: 3 €)"),
        (
            {"title": "Pen", "tags": ["a", "b"], "maker": {"name": "X", "towns": ["Y", "Z"]}, "new": False},
            "Pen (tags: a, b; maker: name X, towns Y, Z; new: False)",
        ),
    ],
)
def test_an_item_reads_as_one_line_without_what_is_empty(item: Any, text: str) -> None:
    read_item: Item = TypeAdapter[Any](Item).validate_python(item)
    assert item_text(read_item) == text


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"type": "comparison", "chosen": " ", "rejected": ""},
            "chosen and rejected are both empty; at least one must hold text",
        ),
        ({"type": "click", "clicked": "\n"}, "clicked is empty"),
        ({"type": "purchase", "item": ""}, "item is empty"),
        ({"type": "rating", "item": " ", "value": 2}, "item is empty"),
        ({"type": "rating", "item": "a", "value": 1, "scale": [5, 1]}, "scale must rise: [5, 1]"),
        ({"type": "rating", "item": "a", "value": 1, "scale": [1, 1]}, "scale must rise: [1, 1]"),
        ({"type": "rating", "item": "a", "value": 5.5}, "value 5.5 is outside the scale [1, 5]"),
        ({"type": "rating", "item": "a", "value": float("nan")}, "value nan is outside the scale [1, 5]"),
    ],
)
def test_an_event_that_says_nothing_is_refused(fields: dict[str, Any], message: str) -> None:
    assert refusal(INTERACTION, **fields) == ((fields["type"],), message)


def test_a_selection_needs_text_somewhere() -> None:
    assert refusal(SelectRequest, items=["", " "]) == ((), "all items are empty; at least one must hold text")
    assert len(SelectRequest(items=("", "a")).items) == 2


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"type": "post", "text": "t", "txt": "t"}, ("post", "txt")),
        ({"type": "post", "text": "  "}, ("post", "text")),
        ({"type": "post", "text": "t", "id": ""}, ("post", "id")),
        ({"type": "post", "text": "t", "source": "s" * 65}, ("post", "source")),
        ({"type": "post", "text": "t", "occurred_at": "2026-01-01T00:00:00"}, ("post", "occurred_at")),
        ({"type": "post", "text": "t", "metadata": {"k": [1]}}, ("post", "metadata", "k")),
        ({"type": "dialogue", "messages": []}, ("dialogue", "messages")),
        ({"type": "dialogue", "messages": [{"role": "bot", "content": "x"}]}, ("dialogue", "messages", 0, "role")),
        ({"type": "dialogue", "messages": [{"role": "user"}]}, ("dialogue", "messages", 0)),
        ({"type": "dialogue", "messages": [{"role": "user", "content": 5}]}, ("dialogue", "messages", 0, "content")),
        (
            {"type": "dialogue", "messages": [{"role": "user", "content": ["x"]}]},
            ("dialogue", "messages", 0, "content"),
        ),
        ({"type": "dialogue", "messages": [{"role": "tool"}] * 501}, ("dialogue", "messages")),
        ({"type": "click", "clicked": "a", "shown": ["b"] * 201}, ("click", "shown")),
        ({"type": "post", "text": "t", "directions": [0.5] * 90}, ("post", "directions")),
    ],
)
def test_a_field_that_is_not_right_is_named(fields: dict[str, Any], place: tuple[int | str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        INTERACTION.validate_python(fields)
    assert caught.value.errors()[0]["loc"][: len(place)] == place


@pytest.mark.parametrize(
    ("directions", "place", "said"),
    [
        ([], (), "exactly 90 values are needed, one a dimension, not 0"),
        ([0.5] * 89, (), "exactly 90 values are needed, one a dimension, not 89"),
        ([0.5] * 91, (), "exactly 90 values are needed, one a dimension, not 91"),
        ([0.5] * 89 + [1.01], (89,), "less than or equal to 1"),
        ([-0.01] + [0.5] * 89, (0,), "greater than or equal to 0"),
        ([float("nan")] + [0.5] * 89, (0,), "equal to"),
        ([0.5] * 89 + ["x"], (89,), "valid number"),
    ],
)
def test_directions_out_of_bounds_are_named_with_the_limit(
    directions: list[Any], place: tuple[int, ...], said: str
) -> None:
    where, message = refusal(INTERACTION, type="comparison", chosen="a", rejected="b", directions=directions)
    assert (where, said in message) == (("comparison", "directions", *place), True), message


def test_directions_are_written_only_where_given() -> None:
    plain = read(type="comparison", chosen="a", rejected="b")
    assert plain.model_dump_json(exclude_none=True) == '{"type":"comparison","chosen":"a","rejected":"b"}'
    assert "directions" not in plain.model_dump()
    schema = type(plain).model_json_schema()["properties"]["directions"]["anyOf"][0]
    assert (schema["minItems"], schema["maxItems"]) == (90, 90)
    assert (schema["items"]["minimum"], schema["items"]["maximum"]) == (0, 1)
    directed = read(type="comparison", chosen="a", rejected="b", directions=[0, 0.5, 1] * 30)
    assert INTERACTION.validate_json(directed.model_dump_json()) == directed
    assert directed.model_dump()["directions"] == (0, 0.5, 1) * 30


@pytest.mark.parametrize(("fields", "said"), [({"type": "like"}, "Input tag 'like'"), ({}, "using discriminator")])
def test_an_unknown_type_is_answered_with_the_known_ones(fields: dict[str, Any], said: str) -> None:
    location, message = refusal(INTERACTION, **fields)
    assert (location, said in message) == ((), True)
    assert not fields or all(f"'{kind}'" in message for kind in INTERACTION_TYPES)


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (EventsRequest, {"events": []}),
        (EditRequest, {"text": " "}),
        (EditRequest, {"text": "x" * 20_001}),
        (SelectRequest, {"items": ["a"]}),
        (SelectRequest, {"items": ["a"] * 27}),
        (SelectRequest, {"items": ["a", "b"], "method": "dice"}),
        (RecommendRequest, {"candidates": []}),
        (RecommendRequest, {"candidates": ["a"], "k": 0}),
        (KeyRequest, {"name": "n", "tenant": "a/b"}),
        (KeyRequest, {"name": "n", "tenant": "a", "rate": 0}),
    ],
)
def test_a_request_out_of_bounds_is_refused(model: Any, fields: dict[str, Any]) -> None:
    assert refusal(model, **fields)[0][0] in fields


@pytest.mark.parametrize("user", ["a", "Ada L.", "a:b", "{1}", "ä😀", "x" * 256, "..", "%2F"])
def test_a_user_id_is_almost_any_text(user: str) -> None:
    assert TypeAdapter[str](UserId).validate_python(user) == user


@pytest.mark.parametrize("user", ["", "a/b", "a\n", "\x00", "a\x7f", "x" * 257])
def test_a_user_id_has_no_slash_and_no_control_character(user: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[str](UserId).validate_python(user)


# --- dialogues -------------------------------------------------------------------------------

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TURNS: list[tuple[dict[str, Any], str | None]] = [
    ({"role": "system", "content": "s"}, None),
    ({"role": "developer", "content": [{"type": "text", "text": "s"}]}, None),
    ({"role": "user", "content": [{"type": "text", "text": "I like trains"}, IMAGE]}, "I like trains"),
    ({"role": "user", "content": [{"type": "input_text", "text": " a "}, {"type": "text", "text": "b"}]}, "a \nb"),
    ({"role": "assistant", "content": None, "tool_calls": [CALL]}, None),
    ({"role": "assistant", "tool_calls": [CALL]}, None),
    ({"role": "tool", "tool_call_id": "c1", "content": "42"}, None),
    ({"role": "function", "name": "f", "content": "42"}, None),
    ({"role": "assistant", "content": ""}, None),
    ({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}], "refusal": None}, "No."),
    ({"role": "user", "content": [IMAGE]}, None),
    ({"role": "user", "content": "thanks", "name": "ada"}, "thanks"),
]
"""Turns in OpenAI's form, and the text that is kept of each."""


def test_of_openais_turns_the_texts_of_user_and_assistant_are_kept() -> None:
    event = read(type="dialogue", messages=[turn for turn, _ in TURNS])
    kept = [{"role": turn["role"], "content": text} for turn, text in TURNS if text]
    assert event.model_dump(exclude_none=True) == {"type": "dialogue", "messages": tuple(kept)}
    assert INTERACTION.validate_json(event.model_dump_json(exclude_none=True)) == event


@pytest.mark.parametrize(("turn", "text"), TURNS)
def test_a_dialogue_of_one_openai_turn_is_accepted(turn: dict[str, Any], text: str | None) -> None:
    event = read(type="dialogue", messages=[turn])
    assert event.model_dump()["messages"] == ({"role": turn["role"], "content": text or ""},)
    assert INTERACTION.validate_json(event.model_dump_json(exclude_none=True)) == event
    fold(Profile(), event)
    assert interaction_lines(event).count("\n") == (2 if text else 1) + (text or "").count("\n")


# --- as a whole --------------------------------------------------------------------------------


def test_an_event_cannot_be_changed() -> None:
    event = read(type="post", text="t")
    with pytest.raises(ValidationError, match="frozen"):
        setattr(event, "id", "other")  # noqa: B010  # mypy knows it too


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.jsonl")), ids=lambda path: path.stem)
def test_the_examples_come_back_as_they_were(path: Path) -> None:
    events = [INTERACTION.validate_json(line) for line in path.read_text().splitlines()]
    assert len(events) > 5
    for event in events:
        assert INTERACTION.validate_json(event.model_dump_json(exclude_none=True)) == event
        assert EventsRequest.model_validate({"events": [event.model_dump()]}).events == (event,)


@pytest.mark.parametrize("value", [0, 1, "true", "yes", 0.0])
@pytest.mark.parametrize(
    ("model", "field"),
    [
        (EventsRequest, "backfill"),
        (ForgetRequest, "dry_run"),
        (KeyRequest, "admin"),
        (WebhookChange, "enabled"),
    ],
)
def test_a_flag_is_true_or_false_and_nothing_is_taken_for_one(
    model: type[BaseModel], field: str, value: object
) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate({field: value})
    assert ("bool_type", (field,)) in [(error["type"], error["loc"]) for error in refused.value.errors()]


@pytest.mark.parametrize("model", [RotateRequest, WebhookRotation])
def test_seconds_are_no_flag(model: type[BaseModel]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate({"overlap_s": True})
