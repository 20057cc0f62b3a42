"""The fast profile as the text of a summary version, with the claims of its sentences."""

from collections.abc import Sequence
from datetime import UTC, datetime

from alignx.schemas.summaries import Claim, EventRange, SummaryVersion
from services.profile.render import make_claims, render
from services.profile.stated.sensitive import DEFAULT, Policy
from services.profile.statistics import Profile
from services.prompts.control_tokens import neutralise


def tell_profile(profile: Profile, event_ids: Sequence[str], policy: Policy = DEFAULT) -> tuple[str, tuple[Claim, ...]]:
    """Its text, in which no model finds control tokens, and its claims; `event_ids` are as in `make_claims`."""
    claims = make_claims(profile, event_ids, policy)
    return neutralise(render(profile, policy)), tuple(
        claim.model_copy(update={"text": neutralise(claim.text)}) for claim in claims
    )


def render_profile(profile: Profile, event_ids: Sequence[str], events: int, policy: Policy = DEFAULT) -> SummaryVersion:
    """Version 0 of a user of so many `events`."""
    text, claims = tell_profile(profile, event_ids, policy)
    return SummaryVersion(
        version=0,
        text=text,
        claims=claims,
        source="profile",
        events=EventRange(count=events),
        created_at=datetime.now(UTC),
    )
