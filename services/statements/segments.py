"""From a sentence to its segments: what stands between marks and joining words, with the cues in each."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from services.statements.cue_lexicon import HOLLOW, Lexicon, Token
from services.statements.cues import Match

JOINING: Final = frozenset(("and", "nor", "contrast", "because", "relative", "than", "without", "except", "instead"))
"""Roles of the words between segments."""
OPENING: Final = frozenset(("hypothetical",))
"""Roles of words that begin a segment and are a part of it."""
_MARKS: Final = (
    dict.fromkeys(",，،", "comma")
    | dict.fromkeys(":：", "colon")
    | dict.fromkeys(";()（）[]–—-~·", "dash")
    | dict.fromkeys("/&+、", "and")
    | {">": "than"}
)
_QUOTES: Final = frozenset('"“”„«»「」『』‘')
_HYPHENS: Final = frozenset("-~·")


class Segment(NamedTuple):
    """Tokens `start` to `end` of a sentence."""

    start: int
    end: int
    join: str
    """What stands before it: a role of JOINING, "comma", "colon", "dash", or "" for nothing."""
    matches: list[Match]
    roles: frozenset[str]

    def has(self, *roles: str) -> bool:
        return not self.roles.isdisjoint(roles)


class Sentence(NamedTuple):
    text: str
    tokens: list[Token]
    segments: list[Segment]
    is_ironic: bool
    is_answer: bool
    """Whether a question stands before it."""

    def has(self, *roles: str) -> bool:
        return any(segment.has(*roles) for segment in self.segments)

    def slice(self, start: int, end: int) -> str:
        return self.text[self.tokens[start].start : self.tokens[end - 1].end] if start < end else ""


def cut_sentence(text: str, lexicon: Lexicon, *, is_answer: bool) -> Sentence:
    tokens = lexicon.tokenize(text)
    keys = [token.key for token in tokens]
    quoted = _quoted(text, tokens)
    matches = [match for match in lexicon.find(keys) if match.start not in quoted]
    matches = [match for match in matches if match.cue.role != "style" or not _is_part(match, tokens, matches, lexicon)]
    segments = _segments(text, tokens, matches)
    for match in matches:
        span = slice(match.start, match.end)
        if match.cue.role == "content":  # such words are not empty, though each may be alone
            tokens[span] = [token._replace(key=f"{token.key}'") for token in tokens[span]]
        elif match.end > match.start + 1 and match.cue.role in HOLLOW:  # and these are, though none may be alone
            tokens[span] = [token._replace(key="_") for token in tokens[span]]
    return Sentence(text, tokens, segments, lexicon.is_ironic(keys), is_answer)


def _is_part(match: Match, tokens: Sequence[Token], matches: Sequence[Match], lexicon: Lexicon) -> bool:
    """Whether a word of style is a part of what something is called, where nothing tells of writing: "glass tables"."""
    if match.end > match.start + 1 or lexicon.is_unspaced:
        return False
    if any(other.cue.role in ("writing", "request") for other in matches):
        return False
    known = {place for other in matches for place in range(other.start, other.end)}
    sides = [place for place in (match.start - 1, match.end) if 0 <= place < len(tokens) and place not in known]
    return any(tokens[place].key[0].isalpha() and tokens[place].key not in lexicon.hollow for place in sides)


def _quoted(text: str, tokens: Sequence[Token]) -> set[int]:
    """The tokens between quotation marks; none where all is quoted."""
    inside: set[int] = set()
    opened: int | None = None
    for index, token in enumerate(tokens):
        if token.key not in _QUOTES and not _is_single_quote(text, token, opening=opened is None):
            continue
        if opened is None:
            opened = index
        else:
            inside.update(range(opened, index + 1))
            opened = None
    words = sum(token.key[0].isalnum() for token in tokens)
    return inside if sum(tokens[index].key[0].isalnum() for index in inside) < words else set()


def _is_single_quote(text: str, token: Token, *, opening: bool) -> bool:
    if token.key != "'":
        return False
    before = text[token.start - 1] if token.start else " "
    after = text[token.end : token.end + 1] or " "
    return before.isspace() and not after.isspace() if opening else not after.isalnum()


def _segment(start: int, end: int, join: str, matches: list[Match]) -> Segment:
    return Segment(start, end, join, matches, frozenset(match.cue.role for match in matches))


def _segments(text: str, tokens: Sequence[Token], matches: Sequence[Match]) -> list[Segment]:
    starts = {match.start: match for match in matches}
    segments: list[Segment] = []
    start, join, inside, index = 0, "", list[Match](), 0
    while index < len(tokens):
        match = starts.get(index)
        role = match.cue.role if match else ""
        if role in JOINING:
            assert match is not None
            mark, following = role, match.end
        elif role in OPENING and index > start:
            assert match is not None
            segments.append(_segment(start, index, join, inside))
            start, join, inside, following, mark = index, role, [match], match.end, ""
            index = following
            continue
        else:
            mark, following = _mark(text, tokens[index]) if match is None else "", index + 1
        if mark:
            if index > start:
                segments.append(_segment(start, index, join, inside))
                inside = []
                join = mark
            elif role in JOINING or not join:  # ", but": the word tells more than the mark
                join = mark
            start = following
        elif match:
            inside.append(match)
        index = following
    if start < len(tokens):
        segments.append(_segment(start, len(tokens), join, inside))
    return segments


def _mark(text: str, token: Token) -> str:
    mark = _MARKS.get(token.key, "")
    if mark and token.key in _HYPHENS:
        sides = text[max(0, token.start - 1) : token.start], text[token.end : token.end + 1]
        return mark if any(side.isspace() for side in sides) else ""
    return mark
