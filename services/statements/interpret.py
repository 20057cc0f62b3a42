"""What the sentences of a text claim, read from left to right."""

from collections.abc import Sequence
from typing import Final

from services.statements.attitudes import (
    LESSER,
    MAX_TARGET,
    NO_STYLE,
    QUESTION_MARKS,
    Attitude,
    Attitudes,
    Clause,
    Group,
    Kind,
    turn,
)
from services.statements.cue_lexicon import Lexicon
from services.statements.segments import Segment, Sentence, cut_sentence

MAX_BARE: Final = 1
"""Words of one thing in a list without "and"."""
_LISTING: Final = frozenset(("comma", "and", "nor", "colon"))
_TURNS: Final = frozenset(("than", "instead", "except"))


class Reader:
    """Reads the sentences of one text."""

    def __init__(self, lexicon: Lexicon, *, statement: bool) -> None:
        self.lexicon = lexicon
        self.statement = statement
        self.clauses: list[Clause] = []
        self.topic = ""
        """What was named last, and with which polarity it was claimed, if it was."""
        self.claimed = 0.0
        self.named = ""
        """The role of who was named last: self, other."""
        self.gone: tuple[str, Attitude] | None = None
        """What was said to be no longer so, and of what."""

    def read(self, texts: Sequence[str]) -> list[Clause]:
        is_answer = False
        for text in texts:
            sentence = cut_sentence(text, self.lexicon, is_answer=is_answer)
            is_answer = text.endswith(QUESTION_MARKS)
            before = len(self.clauses)
            if not sentence.segments or sentence.is_ironic or self._is_supposed(sentence):
                self._quote(sentence.text)
            else:
                _SentenceReader(self, sentence).read()
            roles = [cue.role for part in sentence.segments for cue, *_ in part.matches]
            self.named = next((role for role in reversed(roles) if role in ("self", "other")), self.named)
            # A part of a sentence reads oddly by itself, and may say more than the person did.
            self.clauses[before:] = [clause._replace(quote=text) for clause in self.clauses[before:]]
        return self.clauses

    def _is_supposed(self, sentence: Sentence) -> bool:
        """Whether the person supposes something of themselves: "if I liked jazz"."""
        own = self.lexicon.drops_subject
        return any(part.has("hypothetical") and (own or part.has("self")) for part in sentence.segments)

    def _quote(self, text: str) -> None:
        if self.statement:
            self.clauses.append(Clause(text, "", 0.0, "none"))


class _SentenceReader:
    """Walks the segments of one sentence from left to right."""

    def __init__(self, reader: Reader, sentence: Sentence) -> None:
        self.reader, self.sentence = reader, sentence
        self.attitudes = Attitudes(reader.lexicon, sentence, reader.named)
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
        question = self.attitudes.find_question()
        first = self._read_fragments()
        for index, segment in enumerate(self.sentence.segments[first:], first):
            if index >= question and not self.sentence.has("request"):
                self.unread.append(segment)
                self._remember(segment)
            else:
                self._read_segment(segment, asked=index >= question)
        self._close_list()
        self._flush()

    def _read_fragments(self) -> int:
        """How many segments are read of those that tell a taste without a verb: "tea, not coffee"."""
        first = self.sentence.segments[0]
        if self.sentence.has("style", "style_if", "writing") or not self.attitudes.begins_with_taste():
            return 0
        self.current = Attitude("like", 0.6)
        self._claim(first, self.attitudes.find_content(first.start, first.end), self.current)
        return 1

    def _read_segment(self, segment: Segment, *, asked: bool) -> None:
        if segment.join in ("contrast", "instead") or segment.has("now"):
            self.is_past = False
        self.is_past = self.is_past or segment.has("past")
        groups = [] if segment.has("hypothetical") else self.attitudes.find_groups(segment)
        continues = segment.join in ("than", "without", "except") or (self.awaiting and segment.join == "relative")
        if continues and not any(group.tells for group in groups):
            groups = []  # "I'd rather read than watch", "I hate it when people sing"
        if groups:
            self._close_list()
        if style := self._style(segment, groups):
            self._emit(Clause(self._quote(segment, segment), "", 0.0, "want", style))
        elif asked or segment.has("hypothetical"):
            self._leave(segment)
        elif groups:
            for group in groups:
                self._read_group(segment, group)
        else:
            self._read_rest(segment)

    def _read_group(self, segment: Segment, group: Group) -> None:
        self.subject = self.attitudes.find_subject(segment, group) or self.subject
        span = self.attitudes.find_target(group)
        attitude = self.attitudes.read_attitude(segment, group, is_past=self.is_past)
        self.awaiting = self.current = None
        self.is_list = False
        if (
            self.subject != "other"
            and attitude is None
            and self.reader.gone
            and self.attitudes.is_kept_up(segment, group)
        ):
            self._take_up(segment, Attitude("like", 0.7))
        elif self.subject == "other" or attitude is None or self.sentence.has("style"):
            self._leave(segment)
            if span:
                self._name(self.sentence.slice(*span))
        else:
            self._claim_group(segment, group, attitude, span)

    def _claim_group(self, segment: Segment, group: Group, attitude: Attitude, span: tuple[int, int] | None) -> None:
        self.is_past = False
        self.chain = segment.start
        is_last = group.last.cue.side == "before" and segment.join in (*_LISTING, "dash")
        if is_last and (span or len(self.listed) > 1):
            self.unread = [left for left in self.unread if left not in self.listed]
            for listed in self.listed:
                self._claim(listed, self.attitudes.find_content(listed.start, listed.end), attitude)
        self._claim_lesser(segment, group, attitude)
        if span:
            self._claim(segment, span, attitude)
            self.current = attitude if group.last.cue.side in ("after", "gap") else None
        elif (
            self.reader.topic and not (is_last and len(self.listed) > 1) and self._points_back(segment, group, attitude)
        ):
            self._emit(self._make(segment, self.reader.topic, attitude))
            self.awaiting = attitude
        elif not (is_last and len(self.listed) > 1):
            self.awaiting = attitude
            self.unread.append(segment)
        self.listed = []
        if attitude.past:
            self.reader.gone = (self.reader.topic, attitude)
        elif self.reader.gone:
            self._take_up(segment, attitude)

    def _take_up(self, segment: Segment, attitude: Attitude) -> None:
        """What was no longer so is now the other way: "I used to love it, now the smell makes me sick"."""
        if self.reader.gone is None:
            return
        (topic, past), self.reader.gone = self.reader.gone, None
        is_turned = (past.kind in ("dislike", "avoid")) == (attitude.polarity > 0)
        if topic and is_turned and (topic != self.reader.topic or not self.reader.claimed):
            self._emit(self._make(segment, topic, attitude))

    def _claim_lesser(self, segment: Segment, group: Group, attitude: Attitude) -> None:
        """What the target is preferred to: "rather than Y, I like X", "prefer X to Y"."""
        if attitude.polarity <= 0:
            return
        lesser = Attitude("dislike", LESSER, attitude.past)
        if group.last.cue.versus:
            self._claim(segment, self.attitudes.find_content(group.end, segment.end), lesser)
        if segment.join == "than":
            before = self.attitudes.find_content(segment.start, group.start) if group.last.cue.side == "after" else None
            if before is None and self.listed:
                segment = self.listed[-1]
                before = self.attitudes.find_content(segment.start, segment.end)
            self._claim(segment, before, lesser)
        elif self.lesser:
            self._claim(self.lesser, self.attitudes.find_content(self.lesser.start, self.lesser.end), lesser)
        self.lesser = None

    def _read_rest(self, segment: Segment) -> None:
        """A segment without a cue goes on with the one before it, turns it round, or is not understood."""
        span = self.attitudes.find_content(segment.start, segment.end)
        attitude = self._continued(segment)
        is_object = (
            self.awaiting is not None and segment.join == "relative" and not segment.has("self", "past", "writing")
        )
        if span and attitude and (is_object or self.attitudes.is_listed(segment)):
            is_open = segment.join == "comma" and not self.is_list and not segment.has("focus")
            if attitude is self.current and is_open:
                self.items.append((segment, attitude))
                return
            self._close_list(is_list=segment.join in ("and", "nor"))
            self.is_list = self.is_list or (segment.join == "colon" and self.awaiting is not None)
            self.unread = self.unread[: -1 if self.awaiting else None]
            self.chain = segment.start if self.attitudes.is_barred(segment) else self.chain
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
        spans = [self.attitudes.find_content(segment.start, segment.end) for segment, _ in items]
        is_list = is_list or (len(items) > 1 and all(span and span[1] - span[0] <= MAX_BARE for span in spans))
        for (segment, attitude), span in zip(items, spans, strict=True):
            if is_list:
                self._claim(segment, span, attitude)
            else:
                self.unread.append(segment)

    def _continued(self, segment: Segment) -> Attitude | None:
        """What a segment without a cue of its own says of the thing that it names."""
        negated, barred = segment.has("not", "no"), self.attitudes.is_barred(segment)
        if self.awaiting and segment.join in ("colon", "relative", "dash", "and"):
            return Attitude("dislike", -0.7) if negated else self.awaiting
        if self.sentence.tokens[segment.start].key in self.reader.lexicon.prepositions:
            return None
        if segment.join == "without" or barred:
            return self._excluded(segment, barred=barred)
        current = self.current
        if current is None or (current.past and segment.join not in _LISTING):
            return None
        if segment.join in _TURNS:
            return turn(segment.join, current)
        if segment.join == "nor":
            return current if current.polarity < 0 else Attitude("dislike", -0.7)
        if negated:
            return Attitude("dislike", -0.7) if segment.join in ("comma", "contrast", "dash") else None
        is_list = segment.join in ("comma", "and") or (segment.join == "colon" and self.is_list)
        return current if is_list else None

    def _excluded(self, segment: Segment, *, barred: bool) -> Attitude | None:
        """ "No nuts" and "without nuts"; but "we have two kids and no car" wishes nothing."""
        if not self.current:
            is_told = bool(self.unread) and self.unread[-1].has("finite") and not self.sentence.has("request")
            if is_told or not (barred or segment is self.sentence.segments[0]):
                return None
            if not (self.reader.statement or self.sentence.has("request")):
                return None
        return Attitude("avoid", -0.8)

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
        clausal = [match.end for match in segment.matches if match.cue.role in ("self", "other", "finite")]
        span = self.attitudes.find_content(max(clausal, default=segment.start), segment.end)
        is_listed = self.attitudes.is_listed(segment) and span is not None
        if not (is_listed and segment.join in _LISTING):
            self.listed = []
        if is_listed:
            self.listed.append(segment)
        if span and span[1] - span[0] <= MAX_TARGET:
            self._name(self.sentence.slice(*span))

    def _name(self, topic: str, polarity: float = 0.0) -> None:
        self.reader.topic, self.reader.claimed = topic, polarity

    def _points_back(self, segment: Segment, group: Group, attitude: Attitude) -> bool:
        """Whether a cue without a target of its own speaks of what was named before."""
        if segment.has("pronoun"):
            return True
        if self.reader.claimed * attitude.polarity < 0:
            return False
        if group.last.cue.side == "before":
            return True
        is_next = bool(self.unread) and self.unread[-1].end < segment.start
        return is_next and segment.join in ("and", "comma", "contrast", "dash", "colon")

    def _style(self, segment: Segment, groups: Sequence[Group]) -> dict[str, float]:
        roles = ("style", "style_if") if self.sentence.has("writing") else ("style",)
        found = [match.cue for match in segment.matches if match.cue.role in roles]
        if not found or not (self.reader.statement or self.sentence.has("request")):
            return {}
        if groups and self.attitudes.find_subject(segment, groups[0]) == "other":
            return {}
        sign = self._wish(segment, groups)
        self.wish = sign
        return {cue.feature: sign * cue.polarity for cue in found}

    def _wish(self, segment: Segment, groups: Sequence[Group]) -> float:
        if sign := self.attitudes.find_wish(segment, groups):
            return sign
        if self.awaiting and self.awaiting.polarity:
            return 1.0 if self.awaiting.polarity > 0 else -1.0
        return self.wish if self.wish is not None and segment.join in ("and", "comma") and not groups else 1.0

    def _claim(self, segment: Segment, span: tuple[int, int] | None, attitude: Attitude) -> None:
        if span and not (span[1] == span[0] + 1 and self.sentence.tokens[span[0]].key.isdecimal()):
            self._emit(self._make(segment, self.sentence.slice(*span), attitude))

    def _make(self, segment: Segment, target: str, attitude: Attitude) -> Clause:
        start = min(self.chain, segment.start)
        quote = self.sentence.slice(start, segment.end).strip(" ,;:-–—")
        return Clause(quote, target, attitude.polarity, attitude.kind, NO_STYLE, attitude.past)

    def _quote(self, first: Segment, last: Segment) -> str:
        return self.sentence.slice(first.start, last.end).strip(" ,;:-–—")

    def _emit(self, clause: Clause) -> None:
        self._flush()
        if clause.target:
            self._name(clause.target, clause.polarity)
        self.reader.clauses.append(clause)

    def _flush(self) -> None:
        """Quotes what was not understood, in one piece."""
        if not self.unread:
            return
        kind: Kind = "none"
        if any(segment.has("self", "possessive") for segment in self.unread):
            kind = "habit" if any(segment.has("habit") for segment in self.unread) else "fact"
            kind = "reason" if self.unread[0].join == "because" else kind
        if self.reader.statement or kind != "none":
            self.reader.clauses.append(Clause(self._quote(self.unread[0], self.unread[-1]), "", 0.0, kind))
        self.unread = []
