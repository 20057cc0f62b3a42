"""What the segments of a sentence claim: polarity, target, about whom, and when."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from services.statements.cues import Match
from services.statements.lexicon import Lexicon
from services.statements.segments import Segment, Sentence, cut_sentence

NO_STYLE: Final[Mapping[str, float]] = MappingProxyType({})
MAX_TARGET: Final = 10
"""Words of a target; twice as many characters where words are not set apart."""
MAX_LISTED: Final = 5
"""Words of one thing in a list; twice as many characters."""
MAX_BARE: Final = 1
"""Words of one thing in a list without "and"."""
LESSER: Final = -0.5
"""Polarity of what something else is preferred to."""
_DENIED: Final = {"like": ("dislike", -0.7), "want": ("avoid", -0.8), "use": ("avoid", -0.8)}
"""What a negated attitude says; a negated dislike says nothing."""
_LISTING: Final = frozenset(("comma", "and", "colon"))
_CLAUSAL: Final = ("self", "other", "finite", "question", "relative", "hypothetical", "past")
"""Roles of words that no part of a list holds."""

Kind = Literal["like", "dislike", "avoid", "want", "fact", "habit", "reason", "none"]


class Reading(NamedTuple):
    """The fields of a Clause but for its language."""

    quote: str
    target: str
    polarity: float
    kind: Kind
    style: Mapping[str, float] = NO_STYLE
    past: bool = False


class Attitude(NamedTuple):
    kind: Kind
    polarity: float
    past: bool = False


class Group(NamedTuple):
    """Cues of attitude that stand together: "would like to avoid"."""

    start: int
    end: int
    matches: Sequence[Match]

    @property
    def last(self) -> Match:
        return self.matches[-1]


class Reader:
    """Reads the sentences of one text."""

    def __init__(self, lexicon: Lexicon, *, statement: bool) -> None:
        self.lexicon = lexicon
        self.statement = statement
        self.readings: list[Reading] = []
        self.topic = ""

    def read(self, texts: Sequence[str]) -> list[Reading]:
        sentences = [cut_sentence(text, self.lexicon) for text in texts]
        for sentence in sentences:
            if sentence.has("sarcasm") or _is_supposed(sentence):
                self._quote(sentence.text)
            else:
                _SentenceReader(self, sentence).read()
        return self.readings

    def _quote(self, text: str) -> None:
        if self.statement:
            self.readings.append(Reading(text, "", 0.0, "none"))


def _is_supposed(sentence: Sentence) -> bool:
    """Whether the person supposes something of themselves: "if I liked jazz"."""
    return any(segment.has("hypothetical") and segment.has("self") for segment in sentence.segments)


class _SentenceReader:
    """Walks the segments of one sentence from left to right."""

    def __init__(self, reader: Reader, sentence: Sentence) -> None:
        self.reader, self.lexicon, self.sentence = reader, reader.lexicon, sentence
        self.subject = ""
        self.current: Attitude | None = None
        """What the segments of a list go on to say."""
        self.awaiting: Attitude | None = None
        """An attitude whose target is still to come: "I like two things: …"."""
        self.chain = 0
        self.listed: list[Segment] = []
        """Segments that a cue may still follow: "horror, gore and war films bore me"."""
        self.lesser: Segment | None = None
        self.items: list[tuple[Segment, Attitude]] = []
        """Things in a list of which it is not yet known whether it is one."""
        self.is_list = False
        self.is_past = False
        self.wish: float | None = None
        self.unread: list[Segment] = []

    def read(self) -> None:
        question = self._question_start()
        first = self._read_fragments()
        for index, segment in enumerate(self.sentence.segments[first:], first):
            if index >= question and not self._is_request():
                self.unread.append(segment)
                self._remember(segment)
            else:
                self._read_segment(segment, asked=index >= question)
        self._close_list()
        self._flush()

    def _read_fragments(self) -> None:
        """ "Vinyl, not streaming" and "mountains over beaches" tell a taste without a verb."""
        if not self.sentence.segments:  # marks alone
            return 0
        first, *rest = self.sentence.segments
        if (
            not rest
            or self.sentence.has("style", "style_if", "writing")
            or self._groups(first)
            or not (self._is_listed(first) and self._is_listed(rest[0]))
        ):
            return 0
        negated = any(match.cue.role == "not" and match.start == rest[0].start for match in rest[0].matches)
        negated = negated and len(rest) == 1 and rest[0].join in ("comma", "contrast", "dash")
        if self._groups(rest[0]) or not (rest[0].join == "than" or negated):
            return 0
        self.current = Attitude("like", 0.6)
        self._claim(first, self._content(first.start, first.end), self.current)
        return 1

    def _question_start(self) -> int:
        """The first segment that asks."""
        segments, keys = self.sentence.segments, self.lexicon.interrogatives
        has_mark = self.sentence.text.rstrip("\"'”’)» ")[-1:] in ("?", "？", "؟")
        for index, segment in enumerate(segments):
            if self._asks(segment) or (has_mark and self.sentence.tokens[segment.start].key in keys):
                return index
        if not has_mark:
            return len(segments)
        return max(index for index, segment in enumerate(segments) if index == 0 or segment.join != "and")

    def _asks(self, segment: Segment) -> bool:
        return any(
            match.cue.role == "asks"
            or (match.cue.role == "question" and not self._has_content(segment.start, match.start))
            for match in segment.matches
        )

    def _is_request(self) -> bool:
        return self.sentence.has("request")

    # --- segments ------------------------------------------------------------------------------

    def _read_segment(self, segment: Segment, *, asked: bool) -> None:
        if segment.join in ("contrast", "instead") or segment.has("now"):
            self.is_past = False
        self.is_past = self.is_past or segment.has("past")
        groups = [] if segment.has("hypothetical") else self._groups(segment)
        if groups:
            self._close_list()
        if style := self._style(segment, groups):
            self._emit(Reading(self._quote(segment, segment), "", 0.0, "want", style))
        elif asked or segment.has("hypothetical"):
            self._leave(segment)
        elif groups:
            for index, group in enumerate(groups):
                low = groups[index - 1].end if index else segment.start
                high = groups[index + 1].start if index + 1 < len(groups) else segment.end
                self._read_group(segment, group, low, high)
        else:
            self._read_rest(segment)

    def _groups(self, segment: Segment) -> list[Group]:
        """The cues of attitude, those together that nothing but fillers separates."""
        groups: list[Group] = []
        for match in segment.matches:
            if match.cue.role != "attitude" or not self._stands(match, segment):
                continue
            if groups and match.cue.kind == "use" and self._has_content(groups[-1].end, match.start):
                continue  # a part of the target: "films to watch with friends"
            if groups and not groups[-1].last.gap and not self._has_content(groups[-1].end, match.start):
                last = groups.pop()
                groups.append(Group(last.start, match.end, [*last.matches, match]))
            else:
                groups.append(Group(match.start, match.end, [match]))
        return groups

    def _stands(self, match: Match, segment: Segment) -> bool:
        """Whether a cue stands where it can be one."""
        if match.cue.where == "any":
            return True
        if match.cue.where == "own":
            return segment.has("self") or self._has_self(match)
        if match.cue.where == "end":
            is_named = segment.join in ("colon", "dash") or self._has_content(segment.start, match.start)
            return is_named and not segment.has("self", "other", "finite")
        before = [other for other in segment.matches if other.end <= match.start]
        joined = ("attitude",) if match.cue.where == "start" else ("self", "not")
        if any(other.cue.role in joined and not self._has_content(other.end, match.start) for other in before):
            return True
        opens = not self._has_content(segment.start, match.start)
        return opens and not any(other.cue.role in ("self", "other") for other in before)

    def _read_group(self, segment: Segment, group: Group, low: int, high: int) -> None:
        self.subject = self._subject(segment, group, low, high)
        spans = self._targets(group, low, high)
        attitude = self._attitude(segment, group, low, high)
        self.awaiting = self.current = None
        self.is_list = False
        if self.subject == "other" or attitude is None or self.sentence.has("style"):
            self._leave(segment)
            return
        self.is_past = False
        self.chain = segment.start
        if spans and group.last.cue.side == "before" and segment.join in _LISTING:
            self.unread = [left for left in self.unread if left not in self.listed]
            for listed in self.listed:
                self._claim(listed, self._content(listed.start, listed.end), attitude)
        self._claim_lesser(segment, group, attitude)
        if spans:
            self._claim(segment, spans, attitude)
            self.current = attitude if group.last.cue.side == "after" else None
        elif self.reader.topic and self._points_back(segment, group):
            self._emit(self._reading(segment, self.reader.topic, attitude))
            self.awaiting = attitude
        else:
            self.awaiting = attitude
            self.unread.append(segment)
        self.listed = []

    def _claim_lesser(self, segment: Segment, group: Group, attitude: Attitude) -> None:
        """What the target is preferred to: "rather than Y, I like X", "prefer X to Y"."""
        if attitude.polarity <= 0:
            return
        lesser = Attitude("dislike", LESSER, attitude.past)
        if group.last.cue.versus:
            self._claim(segment, self._content(group.end, segment.end), lesser)
        if segment.join == "than":
            before = self._content(segment.start, group.start) if group.last.cue.side == "after" else None
            if before is None and self.listed:
                segment = self.listed[-1]
                before = self._content(segment.start, segment.end)
            self._claim(segment, before, lesser)
        elif self.lesser:
            self._claim(self.lesser, self._content(self.lesser.start, self.lesser.end), lesser)
        self.lesser = None

    def _read_rest(self, segment: Segment) -> None:
        """A segment without a cue goes on with the one before it, turns it round, or is not understood."""
        span = self._content(segment.start, segment.end)
        attitude = self._continued(segment)
        if span and attitude and self._is_listed(segment):
            if attitude is self.current and segment.join == "comma" and not self.is_list:
                self.items.append((segment, attitude))
                return
            self._close_list(is_list=segment.join == "and")
            self.is_list = self.is_list or (segment.join == "colon" and self.awaiting is not None)
            self.unread = self.unread[: -1 if self.awaiting else None]
            self.chain = segment.start if self._is_barred(segment) else self.chain
            self._claim(segment, span, attitude)
            if segment.join not in ("than", "without", "except"):
                self.current = attitude
            return
        if segment.join == "than" and not self.current:
            self.lesser = segment
        self._leave(segment)

    def _close_list(self, *, is_list: bool = False) -> None:
        """Claims the things listed if an "and" follows, or if they are several of a word or two."""
        items, self.items = self.items, []
        spans = [self._content(segment.start, segment.end) for segment, _ in items]
        is_list = is_list or (len(items) > 1 and all(span and span[1] - span[0] <= MAX_BARE for span in spans))
        for (segment, attitude), span in zip(items, spans, strict=True):
            if is_list:
                self._claim(segment, span, attitude)
            else:
                self.unread.append(segment)

    def _continued(self, segment: Segment) -> Attitude | None:
        negated, barred = segment.has("not", "no"), self._is_barred(segment)
        if self.awaiting and segment.join in ("colon", "relative", "dash", "and"):
            return Attitude("dislike", -0.7) if negated else self.awaiting
        if self.lexicon.prepositions and self.sentence.tokens[segment.start].key in self.lexicon.prepositions:
            return None
        if segment.join == "without" or barred:
            if not (self.current and self.current.polarity) and not barred and segment is not self.sentence.segments[0]:
                return None
            return Attitude("avoid", -0.8) if self.reader.statement or self._is_request() or self.current else None
        current = self.current
        if current is None or (current.past and segment.join not in _LISTING):
            return None
        if segment.join == "than":
            return Attitude("dislike", LESSER, current.past) if current.polarity > 0 else None
        if segment.join == "instead":
            return Attitude("like", 0.7) if current.polarity < 0 else None
        if segment.join == "except":
            return Attitude("dislike", -0.6) if current.polarity > 0 else Attitude("like", 0.6)
        if negated:
            return Attitude("dislike", -0.7) if segment.join in ("comma", "contrast", "dash") else None
        is_list = segment.join in ("comma", "and") or (segment.join == "colon" and self.is_list)
        return current if is_list else None

    def _is_barred(self, segment: Segment) -> bool:
        """ "No nuts": what a fragment begins with is not wanted."""
        first = next((match for match in segment.matches if match.cue.role == "no"), None)
        return (
            first is not None
            and not self._has_content(segment.start, first.start)
            and not segment.has("self", "other", "finite")
        )

    def _leave(self, segment: Segment) -> None:
        """Quotes a segment and claims nothing."""
        self._close_list()
        self.unread.append(segment)
        self.awaiting = self.current = None
        named = [match.cue.role for match in segment.matches if match.cue.role in ("self", "other")]
        self.subject = named[-1] if named else self.subject
        self._remember(segment)

    def _remember(self, segment: Segment) -> None:
        """A cue to come may be about this segment."""
        span = self._content(segment.start, segment.end)
        is_listed = self._is_listed(segment) and span is not None
        if not (is_listed and segment.join in _LISTING):
            self.listed = []
        if is_listed:
            self.listed.append(segment)
        if span and span[1] - span[0] <= MAX_TARGET:
            self.reader.topic = self.sentence.slice(*span)

    # --- who, what, how ------------------------------------------------------------------------

    def _subject(self, segment: Segment, group: Group, low: int, high: int) -> str:
        """ "self", "other" or "" where nobody is named."""
        if any(self._has_self(match) for match in group.matches):
            return "self"
        named = [match for match in segment.matches if match.cue.role in ("self", "other")]
        before = [match for match in named if match.start < group.end and match.start >= low]
        if before:
            return before[-1].cue.role
        if any(match.cue.is_self for match in group.matches):
            return "self"
        after = [match for match in named if group.start <= match.start < high]
        if after and self.lexicon.negation == "both":
            return after[0].cue.role
        first = group.matches[0].cue
        if first.side == "after" and self._has_content(low, group.start) and self._has_content(group.end, high):
            return "other"
        return self.subject or ("self" if self.lexicon.drops_subject else "")

    def _has_self(self, match: Match) -> bool:
        keys = [token.key for token in self.sentence.tokens[match.start : match.end]]
        return not self.lexicon.selves.isdisjoint(keys)

    def _attitude(self, segment: Segment, group: Group, low: int, high: int) -> Attitude | None:
        """The attitude of a group; None where it claims nothing."""
        cues = [match.cue for match in group.matches]
        telling = [cue for cue in cues if cue.polarity]
        kind, polarity = "use", 0.0
        if any(cue.kind == "neutral" for cue in cues):
            return None
        if telling:
            cue = next((cue for cue in telling if cue.polarity < 0), telling[0])
            kind, polarity = cue.kind, cue.polarity
        roles = ("not", "no") if telling else ("not", "no", "cannot")
        if self._is_negated(segment, group, (low, high), roles):
            if kind not in _DENIED or (kind == "use" and segment.has("not_past")):
                return None
            kind, polarity = _DENIED[kind]
        elif telling and segment.has("not_past") and self._is_negated(segment, group, (low, high), ("not_past",)):
            kind, polarity = _DENIED.get(kind, ("", 0.0))
        if not polarity:
            return None
        past = self.is_past or any(cue.past for cue in cues)
        return Attitude(kind, 0.0 if past else polarity, past)  # type: ignore[arg-type]

    def _is_negated(self, segment: Segment, group: Group, bounds: tuple[int, int], roles: Sequence[str]) -> bool:
        if any(match.negated for match in group.matches):
            return True
        low, high = bounds
        if self.lexicon.negation == "before":
            high = group.end
        elif self.lexicon.negation == "after":
            low = group.start
        return any(match.cue.role in roles and low <= match.start < high for match in segment.matches)

    def _targets(self, group: Group, low: int, high: int) -> tuple[int, int] | None:
        last = group.last
        if last.gap and (span := self._content(*last.gap)):
            return span
        if last.cue.side == "inside":
            return self._content(group.start, group.end)
        sides = [(group.end, high), (low, group.start)]
        if last.cue.side == "before":
            return self._content(*sides[1])
        return self._content(*sides[0]) or self._content(*sides[1]) or self._action(group)

    def _action(self, group: Group) -> tuple[int, int] | None:
        """What the person likes or dislikes to do, where nothing else is named: "I love cooking"."""
        first, last = group.matches[0], group.last
        return (last.start, last.end) if last.cue.kind == "use" and first.cue.polarity else None

    def _points_back(self, segment: Segment, group: Group) -> bool:
        """Whether a cue without a target of its own speaks of what was named before."""
        if group.last.cue.side == "before" or segment.has("pronoun"):
            return True
        return (
            bool(self.unread) and self.unread[-1].end < segment.start and segment.join in ("and", "comma", "contrast")
        )

    def _content(self, low: int, high: int) -> tuple[int, int] | None:
        """The tokens between, without marks and empty words at both ends."""
        tokens, hollow = self.sentence.tokens, self.lexicon.hollow
        while low < high and (tokens[low].key in hollow or not tokens[low].key[0].isalnum()):
            low += 1
        while low < high and (tokens[high - 1].key in hollow or not tokens[high - 1].key[0].isalnum()):
            high -= 1
        most = MAX_TARGET if low < high and len(tokens[low].key) > 1 else 2 * MAX_TARGET
        return (low, min(high, low + most)) if low < high else None

    def _has_content(self, low: int, high: int) -> bool:
        return any(
            token.key not in self.lexicon.hollow and token.key[0].isalnum() for token in self.sentence.tokens[low:high]
        )

    def _is_listed(self, segment: Segment) -> bool:
        span = self._content(segment.start, segment.end)
        most = MAX_LISTED if span and len(self.sentence.tokens[span[0]].key) > 1 else 2 * MAX_LISTED
        return span is not None and span[1] - span[0] <= most and not segment.has(*_CLAUSAL)

    # --- style ---------------------------------------------------------------------------------

    def _style(self, segment: Segment, groups: Sequence[Group]) -> dict[str, float]:
        roles = ("style", "style_if") if self.sentence.has("writing") else ("style",)
        found = [match.cue for match in segment.matches if match.cue.role in roles]
        if not found or not (self.reader.statement or self.sentence.has("request") or self.sentence.has("writing")):
            return {}
        if groups and self._subject(segment, groups[0], segment.start, segment.end) == "other":
            return {}
        sign = self._wish(segment, groups)
        self.wish = sign
        return {cue.feature: sign * cue.polarity for cue in found}

    def _wish(self, segment: Segment, groups: Sequence[Group]) -> float:
        if segment.has("not", "no", "not_past", "cannot", "too") or segment.join in ("without", "than", "except"):
            return -1.0
        telling = [match.cue.polarity for group in groups for match in group.matches if match.cue.polarity]
        if telling:
            return 1.0 if min(telling) > 0 else -1.0
        if self.awaiting and self.awaiting.polarity:
            return 1.0 if self.awaiting.polarity > 0 else -1.0
        return self.wish if self.wish is not None and segment.join in ("and", "comma") and not groups else 1.0

    # --- readings ------------------------------------------------------------------------------

    def _claim(self, segment: Segment, span: tuple[int, int] | None, attitude: Attitude) -> None:
        if span:
            self._emit(self._reading(segment, self.sentence.slice(*span), attitude))

    def _reading(self, segment: Segment, target: str, attitude: Attitude) -> Reading:
        start = min(self.chain, segment.start)
        quote = self.sentence.slice(start, segment.end).strip(" ,;:-–—")
        return Reading(quote, target, attitude.polarity, attitude.kind, NO_STYLE, attitude.past)

    def _quote(self, first: Segment, last: Segment) -> str:
        return self.sentence.slice(first.start, last.end).strip(" ,;:-–—")

    def _emit(self, reading: Reading) -> None:
        self._flush()
        if reading.target:
            self.reader.topic = reading.target
        self.reader.readings.append(reading)

    def _flush(self) -> None:
        """Quotes what was not understood, in one piece."""
        if not self.unread:
            return
        kind: Kind = "none"
        if any(segment.has("self") for segment in self.unread):
            kind = "habit" if any(segment.has("habit") for segment in self.unread) else "fact"
            kind = "reason" if self.unread[0].join == "because" else kind
        if self.reader.statement or kind != "none":
            self.reader.readings.append(Reading(self._quote(self.unread[0], self.unread[-1]), "", 0.0, kind))
        self.unread = []
