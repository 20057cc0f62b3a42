"""Tells a summary that contradicts or repeats itself, as small models write.

A claim is what languages.txt lists as `like` or `dislike`, with its topics: the parts of an enumeration, of five words
at most. A claim of which its sentence says when, where or from when on (`limit`, or words before it that are no
subject) holds there alone, and contradicts nothing. Pure functions.
"""

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from services.errors import UnusableReply
from services.prompts.replies.degenerate import count_words, split_words
from services.prompts.replies.lexicon import Language, Reading

_MAX_WORDS: Final = 5
"""Words of a topic."""
_MAX_TIMES: Final = 2
"""Greatest number of claims of one kind on the same topic."""
_MIN_LIST: Final = 3
"""Parts from which on commas alone make an enumeration; "New York, New York" is none."""
_BREAK = re.compile(r"[;:()\[\]—–.!?।。|/]+|(?<=[\u3400-\u9fff]),|,(?=[\u3400-\u9fff])")
_AND = re.compile(r"\W(?:and|or|und|oder|sowie|et|ou|y|e|o|ed|и|или)\W|(?<=\w)(?:以及|[和与及])(?=\w)")
_JOINT = re.compile(rf"[,、]?(?:{_AND.pattern})|[,、]")
_FOREMOST: Final = r"above all|vor allem|surtout|sobre todo|sobretudo|soprattutto|especially"
"""Names a part of what stands before it: "sports, above all football"."""
_PICKS = re.compile(rf"(?<!\w)(?:{_FOREMOST})(?!\w)")
_LEADING = re.compile(
    rf"(?:\W|(?:l|d|dell|all|un)'|(?:{_FOREMOST}"
    r"|answers that are"
    r"|also|an?|the|to|in|of|for|der|die|das|den|dem|eine?[nmr]?|an|für|zu|le|la|les|une?|du|des|de|à|aux?|pour|el|los|las"
    r"|en|por|al|del|os?|as|d[oa]s?|n[oa]s?|por|gli|il|lo|i|di|per|del|dei|delle|к|на|в)(?!\w))+"
)
_IDIOMS: Final = frozenset(
    ("again", "more", "over", "nach", "wieder", "mehr", "más", "mais", "encore", "ancora", "снова")
)
"""Words that are said twice: "again and again"."""


@dataclass(frozen=True)
class Claim:
    """That something is liked, or is not."""

    is_liked: bool
    object: str
    """What, as it is written."""
    start: int
    """Where the claim stands in its sentence."""
    cue: tuple[int, int]
    """Where its words of liking or disliking do."""
    is_limited: bool = False
    """Whether its sentence says when, where or from when on."""

    @property
    def topics(self) -> list[str]:
        """The parts of its enumerations."""
        return [topic for topics in _split_lists(self.object) for topic in topics]


def find_claims(reading: Reading) -> list[Claim]:
    """The claims of a text; none in a language of which no words of liking are listed."""
    return [claim for sentence in reading.sentences for claim in _read_claims(sentence, reading.language)]


def check_consistent(reading: Reading) -> None:
    """Refuses a text that says of the same topic that it is liked and that it is not, or that names it twice in an
    enumeration or in more claims than two, or says the same twice with another certainty. In a language of which no
    such words are listed, only enumerations count."""
    sides: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    sentences = Counter[str]()
    for sentence in reading.sentences:
        claims = _read_claims(sentence, reading.language)
        parts = [claim.object for claim in claims]
        if reading.code != "ja":  # its comma also parts clauses
            parts += _BREAK.split(sentence)
        if any(map(_lists_twice, parts)):
            raise UnusableReply("consistent", "it lists the same twice")
        if claims:
            sentences[_without_certainty(sentence, claims)] += 1
        for claim in claims:
            if not claim.is_limited:
                sides[claim.is_liked].update(set(claim.topics))
    if sides[True].keys() & sides[False].keys():
        raise UnusableReply("consistent", "it contradicts itself")
    if (
        any(times > _MAX_TIMES for side in sides.values() for times in side.values())
        or max(sentences.values(), default=0) > 1
    ):
        raise UnusableReply("consistent", "it says the same twice")


def _read_claims(sentence: str, language: Language | None) -> list[Claim]:
    """Its claims in their order. The topics stand in the group of the expression, or behind its match."""
    if language is None:
        return []
    dislikes = list(language.dislike.finditer(sentence))
    spans = [(match.end(match.lastindex or 0) if match.lastindex else match.start(), match.end()) for match in dislikes]
    likes = [
        match
        for match in language.like.finditer(sentence)
        if not any(start < match.end() and match.start() < end for start, end in spans)
    ]
    matches = sorted([*dislikes, *likes], key=re.Match.start)
    ends = [match.start() for match in matches[1:]] + [len(sentence)]
    claims = []
    for match, end in zip(matches, ends, strict=bool(matches)):
        index = match.lastindex or 0
        cue = (match.end(index) if index else match.start(), match.end())
        rest = sentence[match.end() : end].lstrip(" :*_")
        topics = match[index] if index else _BREAK.split(rest)[0]
        claims.append(Claim(match in likes, topics, match.start(), cue))
    is_limited = bool(claims) and _is_limited(sentence, claims, language)
    return [replace(claim, is_limited=True) for claim in claims] if is_limited else claims


def _split_lists(text: str) -> list[list[str]]:
    """The topics of its enumerations. A part that is too long for a topic ends one."""
    lists: list[list[str]] = [[]]
    for part in _JOINT.split(text):
        topic = _LEADING.sub("", f" {part}", count=1).strip(" *_.-\"'")
        if count_words(topic) > _MAX_WORDS:
            lists.append([])
        elif any(map(str.isalpha, topic)):
            lists[-1].append(topic)
    return lists


def _lists_twice(text: str) -> bool:
    least = 2 if _AND.search(text) or _PICKS.search(text) else _MIN_LIST
    return any(
        len(topics) >= least and any(topic not in _IDIOMS and times > 1 for topic, times in Counter(topics).items())
        for topics in _split_lists(text)
    )


def _without_certainty(sentence: str, claims: list[Claim]) -> str:
    for claim in reversed(claims):
        start, end = claim.cue
        sentence = f"{sentence[:start]}{' +' if claim.is_liked else ' -'}{sentence[end:]}"
    return " ".join(re.findall(r"[\w+-]+", sentence))


def _is_limited(sentence: str, claims: list[Claim], language: Language) -> bool:
    lead, outside = sentence[: claims[0].start], sentence
    for claim in reversed(claims):
        outside = f"{outside[: claim.cue[0]]} {outside[claim.cue[1] :]}"
    if language.limit.search(outside):
        return True
    if not language.function.exact:  # no spaces between words
        return len(re.sub(r"\W", "", language.person.anywhere.sub("", lead))) > 1
    words = set(split_words(lead)) - language.function.exact
    return words != language.person.select(words)
