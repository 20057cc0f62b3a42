"""What a plain sentence says about likes and dislikes, clause by clause.

Rules in English: a verb of liking or disliking, what stands before and after "over", "not" or
"without", and cues such as "shorter" where the sentence is about writing.
"""

import re
from typing import NamedTuple

from services.core.style import MAX_CHARS, URL, terms, words

_CLAUSE = re.compile(r"[.;!?]+|,? (?:but|however|although|though|yet) | - ")
_INSTEAD = re.compile(r"\b(?:over|rather than|instead of|more than|and not|not|no|never|without|less|fewer|avoid)\b")
_LIKE = re.compile(
    r"\b(?:likes?|loves?|prefers?|enjoys?|wants?|favou?rites?|fans? of|keen on|into|interested|adores?|fond of|always"
    r"|need|please|passionate|appreciates?)\b"
)
_DISLIKE = re.compile(
    r"\b(?:hates?|dislikes?|avoids?|despises?|loathes?|(?:do|does|did|would|will|ca|wo)n't"
    r"|(?:do|does|did|would|will|can) not|cannot|not|never|no"
    r"|without|allergic|bored|tired of|stop|too|less|skip|fewer|annoy(?:s|ed|ing)?)\b"
)
_FIRST = re.compile(r"\b(?:i|i'm|i'd|i've|my|please)\b")
_OWN_LIKING = re.compile(
    r"\b(?:i|i'm|i've)(?: (?:am|do|really|also|always|still|just|absolutely))*"
    r" (?:(?P<like>love|loved|like|prefer|enjoy|adore|into|keen on|fond of|a (?:big |huge )?fan of|interested in)"
    r"|(?:hate|hated|dislike|avoid|despise|loathe|(?:don't|do not|can't|cannot|never)"
    r" (?:really )?(?:like|want|enjoy|stand|eat|watch|read|buy|drink)))\b|\bmy (?P<mine>favou?rites?)\b"
)
"""A person naming a liking of their own: what follows is its object."""
MAX_OBJECT_TERMS = 4
_CUES: dict[str, tuple[str, int]] = {
    word: (name, direction)
    for name, direction, listed in (
        ("length", -1, "concise succinct brief short shorter terse"),
        ("length", 1, "detailed thorough long longer depth lengthy exhaustive details"),
        ("scholarship", -1, "simple simpler simply plain easy basic layman beginner"),
        ("scholarship", 1, "technical academic expert advanced jargon scholarly rigorous"),
        ("warmth", -1, "blunt cold matter-of-fact"),
        ("warmth", 1, "friendly warm cheerful encouraging kind"),
        ("chattiness", -1, "formal professional"),
        ("chattiness", 1, "casual informal chatty conversational"),
        ("casual", 1, "humor humour funny jokes joke witty playful"),
        ("lists", -1, "prose"),
        ("lists", 1, "bullet bullets bulleted lists headings"),
        ("emoji", 1, "emoji emojis"),
    )
    for word in listed.split()
}
_OF_WRITING = re.compile(
    r"\b(?:answers?|repl(?:y|ies)|respon[ds]\w*|expla\w+|writing|write|texts?|tone|style|sentences?|words?|language"
    r"|articles?|paragraphs?|keep|be|please|summar\w+|emojis?|jargon|bullets?|concise|get to)\b"
)


class Stated(NamedTuple):
    """What one statement says, each on [-1, 1]."""

    terms: dict[str, float]
    style: dict[str, float]


def stem(word: str) -> str:
    """The same key for singular and plural, good enough to match a statement with an item."""
    if len(word) > 4 and word.endswith("ies") and word != "series":
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] not in "isu" and word != "news" else word


def parse_statement(text: str) -> Stated:
    """Likes and dislikes, clause by clause; a bare topic is a mild liking."""
    found = Stated({}, {})
    for clause in _clauses(text):
        likes, dislikes = _LIKE.search(clause), _DISLIKE.search(clause)
        liked_first = bool(likes and (not dislikes or likes.start() < dislikes.start()))
        parts = _INSTEAD.split(clause, maxsplit=1) if liked_first else [clause]
        value = 1.0 if liked_first else -1.0 if dislikes else 0.4
        for part, sign in zip(parts, (1, -1), strict=False):
            _say(part, sign * value, bool(_OF_WRITING.search(clause)), found)
    return found


def parse_writing(text: str) -> Stated:
    """The likes that a person mentions while writing about something else: "I love …", "short, please"."""
    found = Stated({}, {})
    for clause in _clauses(text):
        likes, dislikes = _LIKE.search(clause), _DISLIKE.search(clause)
        if not _FIRST.search(clause) or not (likes or dislikes):
            continue
        if _OF_WRITING.search(clause):
            liked_first = bool(likes and (not dislikes or likes.start() < dislikes.start()))
            asked = Stated({}, {})
            _say(clause, 1.0 if liked_first else -1.0, True, asked)
            found.style.update(asked.style)
        elif own := _OWN_LIKING.search(clause):
            value = 1.0 if own["like"] or own["mine"] else -1.0
            for part, sign in zip(_INSTEAD.split(clause[own.end() :], maxsplit=1), (1, -1), strict=False):
                for word in terms(words(part), MAX_OBJECT_TERMS):
                    found.terms[stem(word)] = sign * value
    return found


def _clauses(text: str) -> list[str]:
    line = URL.sub(" ", text[:MAX_CHARS]).lower().replace("’", "'").replace("\n", ". ")
    return _CLAUSE.split(" ".join(line.split()))


def _say(part: str, value: float, of_writing: bool, found: Stated) -> None:
    tokens = words(part)
    for word in tokens:
        if of_writing and word in _CUES:
            name, direction = _CUES[word]
            found.style[name] = direction * (value if abs(value) == 1 else 1.0)
    for word in terms(tokens, 12):
        if not (of_writing and word in _CUES):
            found.terms[stem(word)] = value
