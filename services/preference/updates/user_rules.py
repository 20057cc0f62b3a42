"""What the user, and their tenant, decide over what an engine writes: pinned text and denied subjects.

A text that the user wrote over the summary heads every later one, word by word, until they edit again; a reply that
contradicts it fails the check `pin`. A sentence on a denied subject is dropped unless the user spoke of that subject
(check `sensitive`). Pure functions.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from services.errors import UnusableReply
from services.profile.fold import apply_own_text
from services.profile.scoring import topic_odds
from services.profile.stated.allowed import Allowed
from services.profile.stated.clauses import roots_of, stated_styles
from services.profile.stated.sensitive import DEFAULT, Policy
from services.profile.statistics import EMPTY, Profile
from services.prompts.replies.consistency import find_claims
from services.prompts.replies.lexicon import Reading
from services.prompts.replies.summary_checks import drop_sentences
from services.prompts.sentences import split_sentences
from services.statements.clauses import read_clauses
from services.statements.normalize import WORD, fold

_WORD: Final = re.compile(WORD)
_AGAINST: Final = 1.0
"""Log-odds, by the pinned text alone, from which on a claim contradicts it: its topic as a whole, not half of it."""
_LEAST_WISH: Final = 20
"""Hundredths of a plain statement that a wish about style counts from."""


@dataclass(frozen=True)
class UserRules:
    """The rules for one user's summary."""

    profile: Profile
    policy: Policy = DEFAULT

    @property
    def own(self) -> str:
        """The pinned text; "" without one."""
        return self.profile.own.rstrip()

    @cached_property
    def _pinned(self) -> Profile:
        """The pinned text alone as a profile."""
        return apply_own_text(EMPTY, self.own)

    @cached_property
    def _own_sentences(self) -> frozenset[str]:
        return frozenset(map(normalise_sentence, split_sentences(self.own)))

    @cached_property
    def _own_topics(self) -> frozenset[tuple[frozenset[str], bool]]:
        """What the pinned text likes or dislikes as a summary would say it. Where that differs from what a statement
        would mean, its sense is not sure."""
        return frozenset((frozenset(roots_of(topic)), is_liked) for topic, is_liked in _read_topics(self.own))

    @cached_property
    def _allowed(self) -> Allowed:
        return Allowed(self.profile, self.policy)

    def drop_denied(self, text: str) -> str:
        """The text without sentences on denied subjects. Raises UnusableReply where too little remains."""
        return drop_sentences(text, self._is_denied, "sensitive", "it speaks of denied subjects alone")

    def redact(self, text: str) -> str:
        """What is no summary, such as reasoning, without sentences on denied subjects; perhaps nothing."""
        parts = split_sentences(text)
        kept = [part for part in parts if not self._is_denied(part)]
        return text if len(kept) == len(parts) else "".join(kept).strip()

    def _is_denied(self, sentence: str) -> bool:
        return not self._allowed(sentence.strip())

    def pin(self, text: str) -> str:
        """The pinned text and, behind it, what `text` says beyond it."""
        if not self.own:
            return text
        rest = text.removeprefix(self.own)
        rest = "".join(part for part in split_sentences(rest) if normalise_sentence(part) not in self._own_sentences)
        return f"{self.own}\n{rest.strip()}".rstrip()

    def check_pin(self, text: str) -> None:
        """Refuses a text that says of a topic or a style the opposite of the pinned one. Raises UnusableReply."""
        if not self.own:
            return
        topics = [
            (topic, is_liked)
            for topic, is_liked in _read_topics(text)
            if (frozenset(roots_of(topic)), is_liked) not in self._own_topics
        ]
        odds = topic_odds(self._pinned, [topic for topic, _ in topics])
        if any(
            values and max(value if is_liked else -value for value in values) <= -_AGAINST
            for (_, is_liked), values in zip(topics, odds, strict=True)
        ):
            raise UnusableReply("pin", "it contradicts what the user wrote")
        wishes = {name: value for name, value in stated_styles(self._pinned).items() if abs(value) >= _LEAST_WISH}
        if wishes and any(
            wishes.get(name, 0) * sign < 0
            for sentence in split_sentences(text)
            if normalise_sentence(sentence) not in self._own_sentences
            for name, sign in read_styles(sentence).items()
        ):
            raise UnusableReply("pin", "it turns a wish about style round that the user wrote")


def _read_topics(text: str) -> list[tuple[str, bool]]:
    """The topics that a text says to be liked, or not, at all times."""
    claims = find_claims(Reading(text))
    return [(topic, claim.is_liked) for claim in claims if not claim.is_limited for topic in claim.topics]


def normalise_sentence(sentence: str) -> str:
    """The form by which two sentences are one and the same."""
    return " ".join(_WORD.findall(fold(sentence)))


def read_styles(sentence: str) -> dict[str, float]:
    """The wishes about the writing of texts that a sentence of a summary claims: the sign by feature, without those of
    both poles, and none of what it limits to a time or a place."""
    claims = find_claims(Reading(sentence))
    if any(claim.is_limited for claim in claims):
        return {}
    poles: dict[str, set[float]] = {}
    said = [(sentence, 1.0), *((claim.object, 1.0 if claim.is_liked else -1.0) for claim in claims)]
    for text, sign in said:
        for clause in read_clauses(text):
            for name, value in clause.style.items():
                poles.setdefault(name, set()).add(sign if value > 0 else -sign)
    return {name: signs.pop() for name, signs in poles.items() if len(signs) == 1}
