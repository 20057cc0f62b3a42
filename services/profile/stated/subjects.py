"""What a request and a statement are about, and how far one bears on the other.

Meaning is told by word vectors, which know English: a request in another language, or one of hardly any words of its
own ("another one, please"), names no subject, and everything bears on it.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.profile.style_features import STOP, words
from services.profile.word_forms import root
from services.profile.word_table import embed
from services.statements.language import recognize_language

_LEAST_WORDS: Final = 2
_ASKING: Final = frozenset(
    map(
        root,
        (
            *("recommend", "suggest", "suggestion", "help", "need", "want", "look", "idea", "advice", "tip", "best"),
            *("good", "please", "option", "plan", "consider", "think", "interest", "try", "new", "prefer", "choose"),
            *("preference", "like", "love", "enjoy", "user", "person", "clearly", "drawn", "tend", "pick", "example"),
            *("give",),
        ),
    )
)
"""Words of any request or summary: they tell no subject."""


_SELF: Final = re.compile(r"\b(?:I|me|my|mine|we|us|our)\b", re.IGNORECASE)
_FACTUAL: Final = re.compile(
    r"(?:is|are|was|were|do|does|did|has|have|can|could|will|would|who|why|when|how)\b", re.IGNORECASE
)
_ADVICE: Final = re.compile(
    r"\b(?:recommend\w*|suggest\w*|advi[cs]e|ideas?|tips?|best|good|great|worth|should|some|any|options?|ways?)\b",
    re.IGNORECASE,
)
MAX_REQUEST: Final = 2_000
"""Characters of a request that are read, the last ones."""


def subject_of(text: str) -> str:
    """The words of a text that tell what it is about."""
    return " ".join(word for word in words(text) if word not in STOP and root(word) not in _ASKING)


def asked_subject(request: str) -> str:
    """The subject of a request; "" where it tells none."""
    request = request[-MAX_REQUEST:]
    subject = subject_of(request)
    return subject if len(subject.split()) >= _LEAST_WORDS and recognize_language(request) == "en" else ""


def asks_for_fact(request: str) -> bool:
    """Whether an English question has one answer, whoever asks it: whether, who, why, when or how something is, of
    nobody who speaks, and for no advice."""
    request = request.strip()
    is_open = not request.endswith("?") or not _FACTUAL.match(request)
    return not (is_open or _SELF.search(request) or _ADVICE.search(request))


def nearness_to(asked: str, texts: Sequence[str]) -> NDArray[np.float64]:
    """How near each text is to the subject of a request: their cosine, 1 where they share a word."""
    subjects = list(map(read_subject, texts))
    vectors = embed([*(subject.text for subject in subjects), asked])
    cosines: NDArray[np.float64] = (vectors[:-1] @ vectors[-1]).astype(float)
    known = frozenset(map(root, asked.split()))
    return np.where([not known.isdisjoint(subject.roots) for subject in subjects], 1.0, cosines)


class Subject(NamedTuple):
    text: str
    roots: frozenset[str]
    """Of its words."""


@lru_cache(maxsize=2_048)
def read_subject(text: str) -> Subject:
    """The subject of a text that is compared with one request after another."""
    subject = subject_of(text)
    return Subject(subject, frozenset(map(root, subject.split())))
