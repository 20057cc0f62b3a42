"""The calls about what became of answers: feedback, and whether personalization is worth it."""

from typing import Literal

from alignx.client.endpoints import Call, get, post
from alignx.schemas.outcomes import FeedbackRequest, FeedbackStored, Uplift


def feedback(
    response_id: str,
    *,
    user: str | None = None,
    thumb: Literal["up", "down"] | None = None,
    picked: int | None = None,
    query: str = "",
    chosen: str | None = None,
    rejected: str | None = None,
) -> Call[FeedbackStored]:
    """Tells what the user made of an answer: a thumb, the `index` of the item picked, or the reply that was `chosen`
    over another to `query`, which becomes a comparison of the history. Sent again it changes nothing."""
    body = FeedbackRequest(
        response_id=response_id, user=user, thumb=thumb, picked=picked, query=query, chosen=chosen, rejected=rejected
    )
    return post("/v1/feedback", FeedbackStored, body)


def uplift() -> Call[Uplift]:
    """What became of answers with and without personalization, and the difference with its 95 % interval."""
    return get("/v1/quality/uplift", Uplift)
