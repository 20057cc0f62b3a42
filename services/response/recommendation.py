"""Ranks candidates for a user: the fast profile scores all, the engine reads the best of them.

Scores add up to 1: the profile spreads them over all candidates, and the engine redistributes the share of
those it has read.
"""

import asyncio

from alignx.schemas.requests import RankedItem, RecommendRequest, RecommendResponse
from services.profile.explain import reasons
from services.response.selection import Selection, Selector, item_id


async def recommend(selector: Selector, tenant: str, user: str, request: RecommendRequest) -> RecommendResponse:
    """The best candidates, best first. Raises what the Selector raises."""
    candidates, query, method = request.candidates, request.query, request.method
    profile = await selector.profile(tenant, user)
    scores, selection = await selector.by_profile(profile, query, candidates), Selection((), "profile")
    head = sorted(range(len(scores)), key=lambda index: -scores[index])[: selector.settings.rerank]
    if len(head) > 1:
        items = [candidates[index] for index in head]
        by_engine = await selector.by_engine(tenant, user, query, items, method)
        mass = sum(scores[index] for index in head)
        selection = selector.combine(by_engine, [scores[index] / mass for index in head], method)
        if selection.method != "profile":
            for index, probability in zip(head, selection.probabilities, strict=True):
                scores[index] = mass * probability
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: request.k]
    explanations = (
        await asyncio.to_thread(reasons, profile, query, candidates, best) if request.explain else [None] * len(best)
    )
    ranked = tuple(
        RankedItem(
            rank=rank,
            index=index,
            id=item_id(candidates[index]),
            score=round(scores[index], 6),
            reason=why,
        )
        for rank, (index, why) in enumerate(zip(best, explanations, strict=True), start=1)
    )
    return RecommendResponse(
        items=ranked,
        method=selection.method,
        version=selection.version,
        fallback=selection.fallback,
        basis=selection.basis,
        weights=selection.shown_weights,
    )
