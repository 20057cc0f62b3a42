"""What may be said of a user: which of their words, and which texts on the subjects that a policy keeps out."""

import re
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

    def may_quote(self, text: str, language: str, event: int) -> bool:
        """Whether a text that the user said in an event may be quoted. A request to forget everything is of what was
        said before it, one to forget something of what is said later too."""
        return not hides(text, language) and not any(
            (event <= asked or not request.is_all) and request.covers(text, language)
            for asked, request in self._requests
        )

    @cached_property
    def _requests(self) -> list[tuple[int, Request]]:
        """What the user asked to forget, each with the number of its event."""
        return [
            (clause.event, read_request(clause.quote, clause.language))
            for clause in self._profile.clauses
            if asks_to_forget(clause.quote)
        ]

    @cached_property
    def _stated(self) -> frozenset[str]:
        said = [
            clause.quote
            for clause in self._profile.clauses
            if _is_said(clause) and self.may_quote(clause.quote, clause.language, clause.event)
        ]
        return frozenset[str]().union(*(find_subjects(text, self._policy) for text in (*said, self._profile.own)))


def _is_said(clause: StatedClause) -> bool:
    """Whether it tells of the user. A fragment such as "female, 34", of which the grammar is not known, does in a
    statement or a fact, unless it asks."""
    is_plain = clause.kind != "none" or (clause.weight == PLAIN and not _QUESTION.search(clause.quote))
    return is_plain and not clause.is_struck
