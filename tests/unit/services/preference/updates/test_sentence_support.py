"""Which events a sentence rests on. The threshold of meaning was chosen on the rows of test_support.py."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from alignx.schemas.interactions import (
    ClickInteraction,
    ComparisonInteraction,
    Interaction,
    RatingInteraction,
    StatementInteraction,
)
from alignx.schemas.items import ItemFields
from alignx.schemas.summaries import Claim, StoredInteraction
from services.preference.updates.sentence_support import own_claims, support_sentences
from tests.unit.services.preference.updates.test_support import load_rows

SHORT = ComparisonInteraction(query="q", chosen="Yes.", rejected="A long tale, with all that belongs to it. " * 9)


def store(*interactions: Interaction, start: int = 1) -> list[StoredInteraction]:
    now = datetime.now(UTC)
    return [
        StoredInteraction(event_id=f"{number}-0", received_at=now, interaction=interaction)
        for number, interaction in enumerate(interactions, start)
    ]


def support(sentence: str, *interactions: Interaction, past: tuple[Claim, ...] = ()) -> Claim:
    (claim,) = support_sentences(sentence, "", store(*interactions), past)
    return claim


def count_supported(texts: Sequence[str], histories: Sequence[list[Interaction]]) -> tuple[int, int]:
    claims = [
        claim
        for text, history in zip(texts, histories, strict=True)
        for claim in support_sentences(text, "", store(*history))
    ]
    return sum(claim.supported for claim in claims), len(claims)


def test_true_sentences_have_support_and_those_of_another_user_have_none() -> None:
    texts, histories = zip(*load_rows("support", "keep"), *load_rows("support_unseen", "keep"), strict=True)
    supported, count = count_supported(texts, histories)
    assert supported >= 0.75 * count
    supported, count = count_supported(texts, [*histories[7:], *histories[:7]])
    assert supported <= 0.03 * count


def test_a_topic_rests_on_the_events_that_name_or_mean_it() -> None:
    jazz, tea = StatementInteraction(text="I love jazz trumpet."), StatementInteraction(text="Green tea for me.")
    claim = support("The user likes jazz.", jazz, tea)
    assert (claim.support, claim.count, claim.supported, claim.kind) == (("1-0",), 1, True, "model")
    assert claim.since == datetime.fromtimestamp(0.001, UTC)
    meant = ComparisonInteraction(query="films", chosen="Scary movie night", rejected="Garden tools")
    assert support("The user likes horror films.", tea, meant).support == ("2-0",)
    unsupported = support("The user likes opera in Vienna.", tea)
    assert (unsupported.support, unsupported.supported, unsupported.since) == ((), False, None)


def test_what_is_disliked_is_looked_for_in_what_was_passed_over() -> None:
    choice = ComparisonInteraction(query="which?", chosen="Trout with almonds", rejected="Beef stew")
    low = RatingInteraction(item="Beef stew", value=1)
    assert support("The user dislikes beef stew.", choice, low).count == 2
    assert not support("The user likes beef stew.", choice, low).supported
    assert not support("The user dislikes trout.", choice).supported


@pytest.mark.parametrize(
    "sentence", ["The user prefers short answers.", "Der Nutzer bevorzugt kurze Antworten.", "用户喜欢简短直接的回答。"]
)
def test_a_style_rests_on_choices_and_wishes(sentence: str) -> None:
    wish = StatementInteraction(text="Short answers please.")
    assert support(sentence, SHORT, wish, StatementInteraction(text="I like tea.")).support == ("1-0", "2-0")
    turned = SHORT.model_copy(update={"chosen": SHORT.rejected, "rejected": SHORT.chosen})
    assert not support(sentence, turned).supported


@pytest.mark.parametrize(
    ("sentence", "is_supported"),
    [
        ("The user clearly prefers cheap items.", True),
        ("The user avoids expensive headphones.", True),
        ("The user likes luxury.", False),
    ],
)
def test_a_price_rests_on_choices(sentence: str, *, is_supported: bool) -> None:
    low, high = ItemFields(title="Headphones A", price=20), ItemFields(title="Headphones B", price=200)
    assert support(sentence, ClickInteraction(clicked=low, shown=(high, low))).supported == is_supported


def test_a_claim_names_the_latest_events_and_counts_all() -> None:
    claim = support("The user likes jazz.", *[StatementInteraction(text="I like jazz.")] * 9)
    assert (claim.support, claim.count) == (tuple(f"{number}-0" for number in range(5, 10)), 9)
    assert len(claim.support) == 5


def test_a_sentence_that_stays_keeps_its_support() -> None:
    first = support("The user likes jazz.", StatementInteraction(text="I like jazz."))
    events = store(StatementInteraction(text="Green tea for me."), StatementInteraction(text="Jazz again."), start=8)
    (kept, reworded, turned) = support_sentences(
        "The user likes jazz! The user really likes jazz. The user dislikes jazz.", "", events[:1], (first,)
    )
    assert (kept.id, kept.support, kept.since) == (first.id, ("1-0",), first.since)
    assert (reworded.support, reworded.supported) == (("1-0",), True)
    assert (turned.support, turned.supported) == ((), False)
    (more,) = support_sentences("The user likes jazz.", "", events, (first,))
    assert (more.support, more.count, more.since) == (("1-0", "9-0"), 2, first.since)


def test_the_users_own_text_needs_no_support() -> None:
    own = "I like tea.\nNo horror!"
    claims = support_sentences(f"{own}\nThe user likes jazz.", own, [])
    assert [(claim.kind, claim.text, claim.supported) for claim in claims] == [
        ("own", "I like tea.", True),
        ("own", "No horror!", True),
        ("model", "The user likes jazz.", False),
    ]
    assert claims[:2] == own_claims(own)
    assert own_claims("i LIKE tea")[0].id == claims[0].id
