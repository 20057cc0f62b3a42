"""Ranks candidates for a user: the fast profile scores all, the engine reads the best of them.

A score is a share of one: the profile spreads it over all candidates, and the engine divides anew
what the profile gave to those it has read.
"""

from alignx.schemas.requests import RankedItem, RecommendRequest, RecommendResponse
from services.profile.explain import reasons
from services.response.selection import Choice, Selector, item_id


async def recommend(selector: Selector, tenant: str, user: str, request: RecommendRequest) -> RecommendResponse:
    """The best candidates, best first. Raises what the Selector raises."""
    candidates, query, method = request.candidates, request.query, request.method
    profile = await selector.profile(tenant, user)
    known = await selector.by_profile(tenant, user, profile, query, candidates)
    scores, choice = list(known.probabilities), Choice((), "profile")
    head = sorted(range(len(scores)), key=lambda index: -scores[index])[: selector.settings.rerank]
    if len(head) > 1:
        items = [candidates[index] for index in head]
        by_engine = await selector.by_engine(tenant, user, query, items, method)
        if by_engine is not None:
            choice = selector.combined(by_engine, known.of(head), method)
            mass = sum(scores[index] for index in head)
            for index, probability in zip(head, choice.probabilities, strict=True):
                scores[index] = mass * probability
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: request.k]
    told = reasons(profile, query, candidates, best, known.meaning) if request.explain else [None] * len(best)
    ranked = tuple(
        RankedItem(
            rank=rank,
            index=index,
            id=item_id(candidates[index]),
            score=round(scores[index], 6),
            reason=why,
        )
        for rank, (index, why) in enumerate(zip(best, told, strict=True), start=1)
    )
    return RecommendResponse(items=ranked, method=choice.method, version=choice.version)
