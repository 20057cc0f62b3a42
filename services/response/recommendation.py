"""Ranks candidates for a user: the fast profile scores all, the engine reads the best of them.

A score is a share of one: the profile spreads it over all candidates, and the engine divides anew
what the profile gave to those it has read.
"""

from services.core.schemas import RankedItem, RecommendRequest, RecommendResponse
from services.core.wording import reason
from services.response.selection import Choice, Selector, item_id


class Recommender:
    """Recommendation on top of a Selector, whose errors it shares."""

    def __init__(self, selector: Selector) -> None:
        self.selector = selector

    async def recommend(self, tenant: str, user: str, request: RecommendRequest) -> RecommendResponse:
        profile = await self.selector.profile(tenant, user)
        scores = await self.selector.by_profile(tenant, user, profile, request.query, request.candidates)
        choice = Choice((), "profile")
        head = sorted(range(len(scores)), key=lambda index: -scores[index])[: self.selector.settings.rerank]
        if len(head) > 1 and request.method != "profile":
            items = [request.candidates[index] for index in head]
            choice = await self.selector.choose(tenant, user, profile, request.query, items, request.method)
            mass = sum(scores[index] for index in head)
            for index, probability in zip(head, choice.probabilities, strict=True):
                scores[index] = mass * probability
        best = sorted(range(len(scores)), key=lambda index: -scores[index])[: request.k]
        ranked = tuple(
            RankedItem(
                rank=rank,
                index=index,
                id=item_id(request.candidates[index]),
                score=round(scores[index], 6),
                reason=reason(profile, request.query, request.candidates[index]) if request.explain else None,
            )
            for rank, index in enumerate(best, start=1)
        )
        return RecommendResponse(items=ranked, method=choice.method, version=choice.version)
