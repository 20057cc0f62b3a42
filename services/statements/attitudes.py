"""Who likes or avoids what, in one segment of a sentence."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from services.statements.cue_lexicon import Lexicon
from services.statements.cues import Match
from services.statements.segments import Segment, Sentence

MAX_TARGET: Final = 10
"""Words of a target; twice as many characters where words are not set apart."""
MAX_LISTED: Final = 5
"""Words of one thing in a list; twice as many characters."""
QUESTION_MARKS: Final = ("?", "？", "؟")
LESSER: Final = -0.5
"""Polarity of what something else is preferred to."""
NO_STYLE: Final[Mapping[str, float]] = MappingProxyType({})
Kind = Literal["like", "dislike", "avoid", "want", "fact", "habit", "reason", "none"]
_DENIED: Final[dict[str, tuple[Kind, float]]] = {
    "like": ("dislike", -0.7),
    "want": ("avoid", -0.8),
    "use": ("avoid", -0.8),
}
"""What a negated attitude says; a negated dislike says nothing."""
_CLAUSAL: Final = ("self", "other", "finite", "question", "relative", "hypothetical", "past")
"""Roles of words that no part of a list holds."""


class Attitude(NamedTuple):
    kind: Kind
    polarity: float
    past: bool = False


class Clause(NamedTuple):
    """One clause, and what it claims of the person."""

    quote: str
    """As the person said it: NFC, one line, at most MAX_QUOTE characters."""
    target: str
    """What it is about, in the person's words; "" where that is not understood."""
    polarity: float
    """On [-1, 1]: above 0 liked or wanted, below 0 disliked or avoided; 0 claims nothing."""
    kind: Kind
    style: Mapping[str, float] = NO_STYLE
    """Wishes about the writing of answers: sign and strength by name of a feature of style."""
    past: bool = False
    """No longer so: "used to love". Its polarity is 0."""
    language: str = "en"
    """ISO 639-1; "" unknown."""


def turn(join: str, current: Attitude) -> Attitude | None:
    """What is said of the thing after a joining word that turns an attitude round."""
    if join == "instead":
        return Attitude("like", 0.7) if current.polarity < 0 else None
    if join == "except":
        return Attitude("dislike", -0.6) if current.polarity > 0 else Attitude("like", 0.6)
    return Attitude("dislike", LESSER, current.past) if current.polarity > 0 else None


class Group(NamedTuple):
    """Cues of attitude that stand together: "would like to avoid"; they may be about the tokens `low` to `high`."""

    matches: list[Match]
    low: int
    high: int

    @property
    def start(self) -> int:
        return self.matches[0].start

    @property
    def end(self) -> int:
        return self.matches[-1].end

    @property
    def tells(self) -> bool:
        return any(match.cue.polarity for match in self.matches)

    @property
    def last(self) -> Match:
        return self.matches[-1]


class Attitudes:
    """Reads the attitudes of a sentence's segments, each by itself."""

    def __init__(self, lexicon: Lexicon, sentence: Sentence, named: str = "") -> None:
        self.lexicon, self.sentence = lexicon, sentence
        self.named = named
        """The role of who was named last before the sentence."""

    def find_question(self) -> int:
        """The first segment that asks."""
        segments, keys = self.sentence.segments, self.lexicon.interrogatives
        has_mark = self.sentence.text.rstrip("\"'”’)» ").endswith(QUESTION_MARKS)
        for index, segment in enumerate(segments):
            if self._asks(segment) or (has_mark and self.sentence.tokens[segment.start].key in keys):
                return index
        if not has_mark:
            return len(segments)
        return max(index for index, segment in enumerate(segments) if index == 0 or segment.join != "and")

    def _asks(self, segment: Segment) -> bool:
        return any(
            match.cue.role == "asks"
            or (match.cue.role == "question" and not self.has_content(segment.start, match.start))
            for match in segment.matches
        )

    def begins_with_taste(self) -> bool:
        """Whether two things without a verb tell a taste: "tea, not coffee"."""
        first, *rest = self.sentence.segments
        if not rest or self.find_groups(first) or self.find_groups(rest[0]):
            return False
        is_denied = any(match.cue.role == "not" and match.start == rest[0].start for match in rest[0].matches)
        is_contrast = is_denied and len(rest) == 1 and rest[0].join in ("comma", "contrast", "dash")
        return (rest[0].join == "than" or is_contrast) and all(map(self.is_listed, (first, rest[0])))

    def find_groups(self, segment: Segment) -> list[Group]:
        """The cues of attitude, those together that nothing but empty words separates."""
        groups: list[list[Match]] = []
        for match in segment.matches:
            if match.cue.role != "attitude" or not self._stands(match, segment):
                continue
            if groups and (last := groups[-1][-1]).cue.kind == "neutral" and match.start < last.end:
                continue  # within what takes its meaning away: "nothing relaxes me as much as"
            is_apart = not groups or self.has_content(groups[-1][-1].end, match.start)
            if is_apart and groups and match.cue.kind == "use":
                continue  # a part of the target: "films to watch with friends"
            if is_apart or groups[-1][-1].gap:
                groups.append([match])
            else:
                groups[-1].append(match)
        lows = [segment.start, *(group[-1].end for group in groups)]
        highs = [*(group[0].start for group in groups[1:]), segment.end]
        return [Group(*group) for group in zip(groups, lows, highs, strict=False)]

    def _stands(self, match: Match, segment: Segment) -> bool:
        """Whether a cue stands where it can be one."""
        if match.cue.where == "any":
            return True
        if match.cue.where == "own":
            return segment.has("self") or self._has_self(match)
        if match.cue.where == "end":
            is_named = segment.join in ("colon", "dash") or self.has_content(segment.start, match.start)
            is_named = is_named or self._follows_listed(segment)
            return (is_named or self.sentence.is_answer) and not segment.has("self", "other", "finite")
        before = [other for other in segment.matches if other.end <= match.start]
        if match.cue.where == "note":
            sides = (segment.start, match.start), (match.end, segment.end)
            return not all(self.has_content(*side) for side in sides) and self._last_named(match.start) != "other"
        joined = ("attitude",) if match.cue.where == "start" else ("self", "not")
        if any(other.cue.role in joined and not self.has_content(other.end, match.start) for other in before):
            return True
        opens = not self.has_content(segment.start, match.start)
        return opens and not any(other.cue.role in ("self", "other") for other in before)

    def _follows_listed(self, segment: Segment) -> bool:
        """ "Spin classes, ugh": whether what stands before the segment is a thing that is only named."""
        place = next(index for index, other in enumerate(self.sentence.segments) if other is segment)
        return place > 0 and segment.join == "comma" and self.is_listed(self.sentence.segments[place - 1])

    def _last_named(self, end: int) -> str:
        named = [
            match.cue.role
            for segment in self.sentence.segments
            for match in segment.matches
            if match.start < end and match.cue.role in ("self", "other")
        ]
        return named[-1] if named else self.named

    def find_subject(self, segment: Segment, group: Group) -> str:
        """Whose attitude it is: "self", "other", or "" where nobody is named."""
        if any(self._has_self(match) for match in group.matches):
            return "self"
        named = [match for match in segment.matches if match.cue.role in ("self", "other", "possessive")]
        before = [match for match in named if group.low <= match.start < group.end]
        is_after = group.matches[0].cue.side in ("after", "gap")
        if before and before[-1].cue.role == "possessive":  # "my dog loves", but "my dream is"
            return "other" if is_after and self.has_content(before[-1].end, group.start) else "self"
        if before:
            return before[-1].cue.role
        if any(match.cue.is_self for match in group.matches):
            return "self"
        after = [match for match in named if group.start <= match.start < group.high]
        if after and self.lexicon.negation == "both":
            return "other" if after[0].cue.role == "other" else "self"
        if not (is_after and self.has_content(group.low, group.start)):
            return ""
        is_subject = self.lexicon.requires_subject or self.has_content(group.end, group.high)
        return "other" if is_subject else ""

    def _has_self(self, match: Match) -> bool:
        keys = [token.key for token in self.sentence.tokens[match.start : match.end]]
        return not self.lexicon.selves.isdisjoint(keys)

    def read_attitude(self, segment: Segment, group: Group, *, is_past: bool) -> Attitude | None:
        """None where the group claims nothing."""
        cues = [match.cue for match in group.matches]
        if any(cue.kind == "neutral" for cue in cues):
            return None
        telling = [cue for cue in cues if cue.polarity]
        cue = next((cue for cue in telling if cue.polarity < 0), telling[0] if telling else cues[0])
        kind, polarity = cue.kind, cue.polarity
        if self._is_negated(segment, group, ("not", "no", "not_past" if telling else "cannot")):
            if kind not in _DENIED or (kind == "use" and segment.has("not_past")):
                return None
            kind, polarity = _DENIED[kind]
        if not polarity:
            return None
        past = is_past or any(cue.past for cue in cues)
        return Attitude(kind, 0.0 if past else polarity, past)  # type: ignore[arg-type]

    def _is_negated(self, segment: Segment, group: Group, roles: Sequence[str]) -> bool:
        if segment.join == "nor" or any(match.negated for match in group.matches):
            return True
        low = group.start if self.lexicon.negation == "after" else group.low
        high = group.end if self.lexicon.negation == "before" else group.high
        return any(
            low <= match.start < high
            and (match.cue.role in roles or (match.cue.where == "end" and match.cue.keys[0] in self.lexicon.negators))
            for match in segment.matches
            if match not in group.matches and not (match.gap and match.end > group.end - 1 >= match.gap[1])
        )

    def find_target(self, group: Group) -> tuple[int, int] | None:
        """The tokens of what a group is about."""
        last = group.last
        if last.gap and last.cue.side == "gap" and (span := self.find_content(*last.gap)):
            return span
        if last.cue.side == "inside":
            return self.find_content(last.gap[1] if last.gap else group.start, group.end)
        before = self.find_content(group.low, group.start)
        if last.cue.side == "before":
            return before
        return self.find_content(group.end, group.high) or before or self._action(group)

    def _action(self, group: Group) -> tuple[int, int] | None:
        """What the person likes or dislikes to do, where nothing else is named: "I love cooking"."""
        first, last = group.matches[0], group.last
        return (last.start, last.end) if last.cue.kind == "use" and first.cue.polarity else None

    @staticmethod
    def find_wish(segment: Segment, groups: Sequence[Group]) -> float:
        """The sign of a wish about style; 0 where the segment does not tell."""
        if segment.has("not", "no", "not_past", "cannot", "too") or segment.join in ("without", "than", "except"):
            return -1.0
        telling = [match.cue.polarity for group in groups for match in group.matches if match.cue.polarity]
        return (1.0 if min(telling) > 0 else -1.0) if telling else 0.0

    def is_barred(self, segment: Segment) -> bool:
        """ "No nuts": what a fragment begins with is not wanted."""
        first = next((match for match in segment.matches if match.cue.role == "no"), None)
        return (
            first is not None
            and not self.has_content(segment.start, first.start)
            and not segment.has("self", "other", "finite")
        )

    def is_kept_up(self, segment: Segment, group: Group) -> bool:
        """ "I hated olives, now I eat them every day"."""
        is_used = all(match.cue.kind == "use" for match in group.matches) and not segment.has("not", "no", "cannot")
        is_back = segment.has("pronoun") or self.find_content(group.end, group.high) is None
        return is_used and is_back and (segment.has("now") or segment.join == "contrast")

    def find_content(self, low: int, high: int) -> tuple[int, int] | None:
        """The tokens between, without marks and empty words at both ends."""
        tokens, hollow = self.sentence.tokens, self.lexicon.hollow
        while low < high and (tokens[low].key in hollow or not tokens[low].key[0].isalnum()):
            low += 1
        while low < high and (tokens[high - 1].key in hollow or not tokens[high - 1].key[0].isalnum()):
            high -= 1
        most = MAX_TARGET if low < high and len(tokens[low].key) > 1 else 2 * MAX_TARGET
        return (low, min(high, low + most)) if low < high else None

    def has_content(self, low: int, high: int) -> bool:
        return any(
            token.key not in self.lexicon.hollow and token.key[0].isalnum() for token in self.sentence.tokens[low:high]
        )

    def is_listed(self, segment: Segment) -> bool:
        span = self.find_content(segment.start, segment.end)
        most = MAX_LISTED if span and len(self.sentence.tokens[span[0]].key) > 1 else 2 * MAX_LISTED
        return span is not None and span[1] - span[0] <= most and not segment.has(*_CLAUSAL)
