"""What may be said of a user: which clauses may be quoted, and which texts speak of no subject that is kept out."""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Final

from services.profile.stated.sensitive import Policy, find_subjects, lacks
from services.profile.stated.withheld import Request, asks_to_forget, hides, read_request
from services.profile.statistics import PLAIN, Profile, StatedClause

_QUESTION: Final = re.compile(r"[?？؟]")


class Allowed:
    """Which texts may be said of a user: all but those on subjects that the policy keeps out and the user did not speak
    of. A request to forget a subject, what it covers, and what is told of others do not speak of it."""

    def __init__(self, profile: Profile, policy: Policy) -> None:
        self._profile, self._policy = profile, policy

    def __call__(self, text: str) -> bool:
        subjects = find_subjects(text, self._policy)
        return not (subjects and lacks(subjects, self._stated))

    @cached_property
    def quotable(self) -> list[StatedClause]:
        """The clauses that may be quoted."""
        clauses = self._profile.clauses
        requests = [
            (clause.event, read_request(clause.quote, clause.language))
            for clause in clauses
            if asks_to_forget(clause.quote)
        ]
        return [clause for clause in clauses if _is_quotable(clause, self._profile.own, requests)]

    @cached_property
    def _stated(self) -> frozenset[str]:
        said = [clause.quote for clause in self.quotable if _is_said(clause)]
        return frozenset[str]().union(*(find_subjects(text, self._policy) for text in (*said, self._profile.own)))


def _is_quotable(clause: StatedClause, own: str, requests: Sequence[tuple[int, Request]]) -> bool:
    """What the user wrote over the summary heads the text already. A request to forget everything is of what was said
    before it, one to forget something of what is said later too."""
    quote = clause.quote
    if hides(quote, clause.language) or (quote and quote in own):
        return False
    return not any(
        (clause.event <= event or not request.is_all) and request.covers(quote, clause.language)
        for event, request in requests
    )


def _is_said(clause: StatedClause) -> bool:
    """Whether it tells of the user. A fragment such as "female, 34", of which the grammar is not known, does in a
    statement or a fact, unless it asks."""
    is_plain = clause.kind != "none" or (clause.weight == PLAIN and not _QUESTION.search(clause.quote))
    return is_plain and not clause.is_struck
