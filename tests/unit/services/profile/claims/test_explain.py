"""What a reason for an item may tell of the user."""

import pytest

from alignx.schemas.interactions import PurchaseInteraction, StatementInteraction
from alignx.schemas.items import ItemFields
from services.profile.claims.explain import reasons
from services.profile.stated.sensitive import DEFAULT, Policy
from tests.unit.services.profile.histories import folded, stated


@pytest.mark.parametrize(
    ("texts", "is_told"),
    [
        (("I love whisky.",), True),
        (("Forget everything I told you.", "I love whisky."), True),
        (("I love whisky.", "Forget that I like jazz."), True),
        (("I love whisky.", "Forget everything I told you."), False),
        (("I love whisky.", "Forget that I love whisky."), False),
        (("Never mention whisky.", "I love whisky."), False),
    ],
)
def test_a_reason_tells_nothing_that_the_user_asked_to_forget(texts: tuple[str, ...], is_told: bool) -> None:
    why = reasons(stated(*texts), "a gift", ("A bottle of whisky", "A history of Rome"), (0,))
    assert ("whisky" in why[0]) == is_told


@pytest.mark.parametrize(
    ("category", "policy", "text", "is_told"),
    [
        ("Pregnancy", DEFAULT, "I like tea.", False),
        ("Pregnancy", DEFAULT, "I am pregnant.", True),
        ("Pregnancy", DEFAULT, "Please forget that I was pregnant.", False),
        ("Pregnancy", Policy(sensitive=False), "I like tea.", True),
        ("Poker", DEFAULT, "I like tea.", True),
        ("Poker", Policy(denied=frozenset({"poker"})), "I like tea.", False),
    ],
)
def test_a_reason_names_no_denied_subject(category: str, policy: Policy, text: str, is_told: bool) -> None:
    bought = [PurchaseInteraction(item=ItemFields(title=f"Thing {n}", category=category)) for n in range(6)]
    profile = folded([*bought, StatementInteraction(text=text)])
    offered = (ItemFields(title="Ring", category=category), ItemFields(title="Lamp", category="Light"))
    assert (f"It belongs to {category}" in reasons(profile, "", offered, (0,), policy)[0]) == is_told
