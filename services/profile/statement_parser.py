"""What a plain sentence says about likes and dislikes, clause by clause.

Rules in English: a verb of liking or disliking, what stands before and after "over", "not" or
"without", and cues such as "shorter" where the sentence is about writing.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from services.profile.style_features import MAX_CHARS, URL, terms, words

_CLAUSE = re.compile(r"[.;!?]+|, which |,? (?:but|however|although|though|yet) | - ")
_REASON = re.compile(r"(?:,? because(?: of)?|,? since|,? as|,? due to|,? given) (?=(?P<own>i|i'm|i've|my)\b|)")
_STRESS = r"(?:(?:really|quite|much|strongly|strictly|usually|generally|typically|mostly|always|also|still|just|only"
_STRESS += r"|absolutely|personally|rather|do|am|definitely|normally|often|tend to|have a (?:strong )?) )*"
_NOT = r"(?:(?:do|does|did|would|will|ca|wo)n't|(?:do|does|did|would|will|can|am|is) not|cannot|i'm not|not|never)"
_NOT += r"(?! (?:only|just|merely|simply)\b)"
_LIKE = (
    r"likes|liked|(?:(?<=\bi )|(?<=\bi'd )|(?<=\bi'll )|(?<=^)|(?<=to )|(?<=ly )|(?<=so )|(?<=and )|(?<=do ))like"
    r"|loves?|loved|prefers?|preferring|preferred|enjoys?|enjoyed|wants?|favou?rites?|fans? of|keen on|into"
    r"|interested|adores?|fond of|always|need|please|passionate|appreciates?|preference for|only|committed to"
)
_TASTE = (
    r"(?:like|want|enjoy|stand|a (?:big |huge )?fan of|interested in|into|keen on|care for|use|eat|buy|wear|watch|read"
    r"|appeal|suit|fit)"
)
"""What one does or is to what one likes."""
_DISLIKE = (
    rf"{_NOT}(?: to)?(?: {_STRESS}{_TASTE})?"
    r"|hates?|hated|dislikes?|disliked|avoids?|avoiding|despises?|loathes?|without|allergic|allerg(?:y|ies)|aversion"
    r"|phobia|fear of|afraid of|intolerant|bored|tired of|stop|too|less|skip|fewer|annoy(?:s|ed|ing)?|no"
    r"|(?:stay|steer|shy) (?:away|clear) from|away from|refuse|uncomfortable|over|rather than|instead of|more than"
)
_CUE = re.compile(rf"\b(?:(?P<dislike>{_DISLIKE})|(?P<like>{_LIKE}))\b(?! (?:i|i'm)\b)")
_INSTEAD = frozenset(["over", "more than", "without"])
"""Cues that say something only after a liking."""
_FIRST = re.compile(r"\b(?:i|i'm|i'd|i've|i'll|my|me|please)\b")
_BARE_NOT = rf"{_NOT}\b(?!(?: to)? {_STRESS}{_TASTE}\b)"
_TOLD_TASTE = rf"(?!{_BARE_NOT}|(?:want|need)(?:ed)? to\b)(?:{_DISLIKE}|{_LIKE})\b"
"""Neither "I didn't know" nor "I need to go" tells a taste."""
_OWN = re.compile(
    rf"\b(?:i|i'm|i've|i'd|i'll)\b (?:think |guess )?(?:i'll |i'd )?{_STRESS}"
    rf"(?={_TOLD_TASTE}|(?P<taken>(?:go (?:with|for)|choose|pick|take|opt for) ))|\bmy (?=favou?rites?\b)"
)
"""A person naming a liking of their own, or making a choice: what follows is its object."""
_VERDICT = re.compile(
    r"\b(?P<good>(?:sounds?|looks?|seems?|would be) (?:like )?(?:an? |the )?(?:most )?"
    r"(?:perfect|good|great|best|ideal|lovely|wonderful|appealing|interesting|nice|fun|fantastic|appropriate)"
    r"|appeals? to me)\b|\b(?:(?:do|does|did)n't|(?:do|does|did) not|aren't|isn't) (?:really |quite |seem |exactly )*"
    r"(?:to )?(?:appeal|suit|align|fit|match|interest|work|sound|for me|my)\b|\ba bit too\b"
)
"""What was said before it is liked or not."""
_OPTION = re.compile(r"\b(?:i|me|my|mine|options?|ones?|suggestions?)\b")
MAX_OBJECT_TERMS = 4
_FILLER = frozenset(
    re.findall(
        r"\w+",
        """option options suggestion suggestions strongly strictly strong involve involves involving contain contains
        containing anything everything nothing based due form forms certain personally usually generally tend sounds
        seems feel feels feeling appeal align preference preferences""",
    )
)
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


MAX_STATED_TERMS = 12
_ENDINGS: tuple[str, ...] = (
    *("ingly", "ively", "ations", "ation", "istic", "ments", "ment", "ness", "able", "ical", "ally", "ions"),
    *("ism", "ist", "ing", "ion", "ive", "ity", "ies", "ed", "er", "ly", "al", "ic", "es", "y", "e"),
)
_JOINERS = frozenset(["free", "non", "based", "derived", "related", "style", "like", "friendly", "heavy", "up"])
_ABSENT = frozenset(["no", "without", "minimal", "non", "avoid", "avoids", "not", "zero", "free"])


class Stated(NamedTuple):
    """What one statement says, each on [-1, 1]."""

    terms: dict[str, float]
    style: dict[str, float]


def stem(word: str) -> str:
    """The same key for singular and plural, good enough to match a statement with an item."""
    if len(word) > 4 and word.endswith("ies") and word != "series":
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] not in "isu" and word != "news" else word


@lru_cache(maxsize=32_768)
def root(word: str) -> str:
    """The same key for a word's inflections, good enough to match a statement with an item: no word to show."""
    word = stem(word)
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls" else word
    return word


def mentions(tokens: Iterable[str]) -> dict[str, int]:
    """The roots of what an item's words speak of: 1, or -1 where the item goes without it ("sugar-free")."""
    stated: dict[str, int] = {}
    absent = 1
    for token in tokens:
        if "-" in token:
            parts = token.split("-")
            sign = -1 if parts[-1] == "free" or parts[0] == "non" else absent
            for part in parts:
                if part not in _JOINERS:
                    stated.setdefault(root(part), sign)
        else:
            stated.setdefault(root(token), absent)
        absent = -1 if token in _ABSENT else 1
    return stated


@lru_cache(maxsize=8_192)
def parts_of(word: str) -> tuple[tuple[str, int], ...]:
    """What one word mentions."""
    return tuple(mentions((word,)).items())


def parse_statement(text: str) -> Stated:
    """Likes and dislikes, clause by clause; a bare topic is a mild liking."""
    stated = Stated({}, {})
    for clause in _clauses(text):
        statement, *reasons = _split_reasons(clause)
        for part in (statement, *reasons):
            _add_clause(part, stated)
    return stated


def parse_writing(text: str) -> Stated:
    """The likes that a person mentions while writing about something else: "I love …", "short, please"."""
    stated = Stated({}, {})
    for clause in _clauses(text):
        statement = _split_reasons(clause)[0]
        if _FIRST.search(statement) and _OF_WRITING.search(statement) and _CUE.search(statement):
            requested = Stated({}, {})
            _add_clause(statement, requested)
            stated.style.update(requested.style)
        elif own := _OWN.search(statement):
            mentioned = Stated({}, {})
            _add_clause(statement[own.end() :], mentioned, MAX_OBJECT_TERMS, bare=1.0 if own["taken"] else 0.0)
            stated.terms.update({word: value for word, value in mentioned.terms.items() if value})
        elif (verdict := _VERDICT.search(statement)) and _OPTION.search(statement):
            _add_part(statement[: verdict.start()], 1.0 if verdict["good"] else -1.0, stated, MAX_OBJECT_TERMS)
            if not verdict["good"]:
                _add_part(statement[verdict.end() :], -1.0, stated, MAX_OBJECT_TERMS)
    return stated


def _clauses(text: str) -> list[str]:
    line = URL.sub(" ", text[:MAX_CHARS]).lower().replace("’", "'").replace("\n", ". ")
    return _CLAUSE.split(" ".join(line.split()))


def _split_reasons(clause: str) -> list[str]:
    """What is said, then the reasons that the person gives of themselves; other reasons are left out."""
    parts, start, own = [], 0, True
    for reason in _REASON.finditer(clause):
        if own:
            parts.append(clause[start : reason.start()])
        start, own = reason.end(), bool(reason["own"])
    if own:
        parts.append(clause[start:])
    return parts or [""]


def _add_clause(clause: str, stated: Stated, limit: int = MAX_STATED_TERMS, bare: float = 0.4) -> None:
    """Each part of a clause with the sign of the cue before it, or of the first cue where it has none."""
    of_writing = bool(_OF_WRITING.search(clause))
    value, start = bare, 0
    first = True
    for cue in _CUE.finditer(clause):
        sign = 1.0 if cue["like"] else -1.0
        if first and cue[0] in _INSTEAD:
            continue
        _add_part(clause[start : cue.start()], sign if first else value, stated, limit, of_writing=of_writing)
        value, start, first = sign, cue.end(), False
    _add_part(clause[start:], value, stated, limit, of_writing=of_writing)


def _add_part(part: str, value: float, stated: Stated, limit: int, *, of_writing: bool = False) -> None:
    tokens = words(part)
    for word in tokens:
        if of_writing and word in _CUES:
            name, direction = _CUES[word]
            stated.style[name] = direction * (value if abs(value) == 1 else 1.0)
    for word in terms(tokens, limit, _FILLER):
        if not (of_writing and word in _CUES):
            stated.terms[stem(word)] = value
