"""Ranks candidates for a user: the fast profile scores all, the engine reads the best of them.

Scores add up to 1: the profile spreads them over all candidates, and the engine redistributes the share of
those it has read.
"""

from alignx.schemas.requests import RankedItem, RecommendRequest, RecommendResponse
from services.profile.claims.explain import reasons
from services.profile.statistics import EMPTY
from services.response.selection import Question, Selection, Selector, item_id
from services.slices import call_in_thread


async def recommend(selector: Selector, tenant: str, user: str, request: RecommendRequest) -> RecommendResponse:
    """The best candidates, best first. Raises what the Selector raises."""
    query, method = request.query, request.method
    candidates = await selector.catalogue.resolve(tenant, request.candidates, "candidates")
    serving = await selector.outcomes.open(tenant, user, "recommendation")
    if serving.arm == "control":
        user, method = serving.known_user, "profile"
    profile = await selector.profile(tenant, user, method)
    by_profile = await selector.by_profile(Question(tenant, user, query, candidates), profile)
    scores, selection = list(by_profile.probabilities), Selection((), "profile", by_profile=by_profile)
    head = sorted(range(len(scores)), key=lambda index: -scores[index])[: selector.settings.rerank]
    if len(head) > 1:
        items = [candidates[index] for index in head]
        question = Question(tenant, user, query, items)
        by_engine = await selector.by_engine(question, method if profile else "profile")
        mass = sum(scores[index] for index in head)
        selection = selector.combine(by_engine, by_profile.subset(head), method)
        if selection.method != "profile":
            for index, probability in zip(head, selection.probabilities, strict=True):
                scores[index] = mass * probability
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: request.k]
    explanations: list[str] | list[None] = [None] * len(best)
    if request.explain:
        policy = await selector.store.policy(tenant)
        explanations = await call_in_thread(tenant, lambda: reasons(profile or EMPTY, query, candidates, best, policy))
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
    served = await selector.outcomes.record(serving, {index: candidates[index] for index in best})
    return RecommendResponse(**served, items=ranked, **selection.describe())
