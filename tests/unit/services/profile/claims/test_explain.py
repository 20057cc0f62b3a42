"""Reasons for items, as sentences that are true of them."""

from services.profile.claims.explain import reason
from tests.unit.services.profile.histories import LONG, SHORT, folded, prefers


def test_a_name_is_not_called_a_text() -> None:
    profile = folded(prefers(SHORT, LONG, 20))
    assert reason(profile, "", "Boil it. Six minutes will do.").startswith("They prefer texts that")
    assert "text" not in reason(profile, "", "Oak table")
