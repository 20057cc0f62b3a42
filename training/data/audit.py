"""Figures of a dataset and warnings of known traps, from one pass in bounded memory.

    quality = Quality()
    for row in read(path, RlRow):
        quality.add(row)
    quality.figures(), quality.warnings()

The traps are those of the published data preparations: queries overwritten by the same text, a history
left over from the user before, letter replies that are all the same, neutral directions, rows that a
length limit would truncate. A warning names the trap, its count, and a possible cause.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from alignx.schemas.interactions import PREFERENCE_DIMENSIONS
from services.errors import EngineError
from services.prompts.build import estimate_tokens
from services.prompts.replies.parse_summary import parse_summary
from training.data.formats import AlignXRow, PairRow, RlRow, Row, SftRow, Triple, UpiRow
from training.data.origin import OriginCount, OriginFigures
from training.data.sketches import Commonest, Quantiles, Repeats, Spread, fingerprint

FEW = 20
"""Fewer rows give no warnings."""
PROMPT_TOKENS = 8192
"""The longest prompt of the published recipes."""
SUMMARY_CHARS = 20_000
LETTER_REPLY = re.compile(r'\W*(?:\{"selection":\s*")?(?:item\s+|option\s+)?([A-Z])\b\W*', re.IGNORECASE)
QUERY_IN_PROMPT = re.compile(r"<query>(.*?)</query>|\*(?:Query|Post):\*\s*\n(.*?)\n\s*\*Chosen:\*", re.DOTALL)
"""A history's queries in prompt text: as our prompts write them, and as the published ones do."""


class DirectionCoverage(BaseModel):
    """Coverage of the preference directions of targets."""

    rows: int
    """Rows that carry directions."""
    all_neutral: int
    """Of these, rows where every direction is 0.5."""
    per_row: Quantiles | None
    """Dimensions of a row that are not neutral."""
    values: dict[str, int]
    """How often each value occurs, over all rows and dimensions: the balance of the labels."""
    never_set: list[int]
    """Dimensions that are neutral in every row."""


class Figures(BaseModel):
    """The figures of a dataset; those that its kind does not have are none or empty."""

    model_config = ConfigDict(frozen=True)

    rows: int
    spreads: dict[str, Quantiles]
    """Lengths in characters and counts, by name."""
    duplicates: float
    """Share of rows that repeat the texts of an earlier row."""
    duplicates_exact: bool
    commonest_query: float | None
    """Share of the most frequent query among all queries, from below."""
    chosen_longer: float | None
    """Share of choices where the chosen text is the longer one; of equal length counts half."""
    letters: dict[str, int]
    """Replies that are a letter alone, by letter."""
    directions: DirectionCoverage | None
    origin: OriginFigures | None


class Quality:
    """Collects the figures row by row."""

    def __init__(self) -> None:
        self.rows = 0
        self.traits: Counter[str] = Counter()
        """Rows by trait, such as "too long"."""
        self._spreads: defaultdict[str, Spread] = defaultdict(Spread)
        self._repeats = Repeats()
        self._queries = Commonest()
        self._longer = 0.0
        self._choices = 0
        self._letters: Counter[str] = Counter()
        self._values: Counter[float] = Counter()
        self._set = [False] * PREFERENCE_DIMENSIONS
        self._before: tuple[str | None, list[int]] = (None, [])
        self.origin = OriginCount()

    def add(self, row: Row) -> None:
        self.rows += 1
        texts = list(row.texts())
        self._spread("characters", sum(map(len, texts)))
        position = str(row.mid_position) if isinstance(row, RlRow) else ""
        self._repeats.add(fingerprint(position, *texts))
        self._leftovers(row)
        if isinstance(row, SftRow | PairRow):
            self._messages(row)
        else:
            self._history(row)
        if isinstance(row, RlRow):
            self._spread("mid_position", row.mid_position)
            self._spread("mid_position / history", row.mid_position / len(row.history))
        if isinstance(row, AlignXRow):
            self._spread("posts", len(row.posts))
            self.traits["description"] += bool(row.demographic.strip())
            self._directions(row.directions)

    def _spread(self, name: str, value: float) -> None:
        self._spreads[name].add(value)

    # --- parts of a row ------------------------------------------------------------------------

    def _history(self, row: Row) -> None:
        triples, target = row.triples(), row.target()
        self._spread("history", len(triples))
        for triple in triples:
            self._queries.add(fingerprint(triple.query))
            self.traits["empty choice"] += triple.chosen == triple.rejected
        if target:
            self._queries.add(fingerprint(target.query))
            self._choice(target.chosen, target.rejected)
            self.traits["target in history"] += any(triple.texts() == target.texts() for triple in triples)
        self.traits["too long"] += _too_long(list(row.texts()))

    def _messages(self, row: SftRow | PairRow) -> None:
        prompt = [turn.content for turn in row.prompt]
        self._spread("prompt characters", sum(map(len, prompt)))
        self.traits["no system message"] += row.prompt[0].role != "system"
        self.traits["too long"] += _too_long(prompt)
        for query in _queries(prompt):
            self._queries.add(fingerprint(query))
        if isinstance(row, PairRow):
            self._queries.add(fingerprint(row.prompt[-1].content))
            reply = row.chosen[0].content
            self._choice(reply, row.rejected[0].content)
        else:
            reply = row.completion[0].content
            self._spread("completion characters", len(reply))
            self._summary(reply)
            self._spread("tokens, estimated", estimate_tokens("".join(prompt) + reply))
            if row.origin:
                self.origin.add(row.origin, prompt[-1], reply)
        if letter := LETTER_REPLY.fullmatch(reply.rpartition("</think>")[2]):
            self._letters[letter[1].upper()] += 1

    def _summary(self, reply: str) -> None:
        self.traits["no thinking"] += "</think>" not in reply
        try:
            parse_summary(reply, max_chars=SUMMARY_CHARS)
        except EngineError:
            self.traits["no summary"] += 1

    def _choice(self, chosen: str, rejected: str) -> None:
        self._choices += 1
        self._longer += (len(chosen) > len(rejected)) + 0.5 * (len(chosen) == len(rejected))
        self._spread("chosen characters", len(chosen))
        self._spread("rejected characters", len(rejected))

    def _directions(self, values: Sequence[float] | None) -> None:
        if values is None:
            return
        self.traits["directions"] += 1
        dimensions = [index for index, value in enumerate(values) if value != 0.5]
        self._values.update(values)
        self._spread("directions set", len(dimensions))
        self.traits["all neutral"] += not dimensions
        for index in dimensions:
            self._set[index] = True

    def _leftovers(self, row: Row) -> None:
        """Counts a row that repeats a part of the history of the row before, of another user."""
        user = row.uid if isinstance(row, RlRow) else row.userid if isinstance(row, UpiRow) else None
        parts = _history_parts(row)
        user_before, parts_before = self._before
        if user is None or user != user_before:
            pairs = zip(parts, parts_before, strict=False)
            self.traits["history of the row before"] += any(part and part == before for part, before in pairs)
        self._before = (user, parts)

    # --- results -------------------------------------------------------------------------------

    def figures(self) -> Figures:
        spreads = {name: spread.quantiles() for name, spread in self._spreads.items()}
        return Figures(
            rows=self.rows,
            spreads={name: quantiles for name, quantiles in spreads.items() if quantiles},
            duplicates=self._repeats.share(),
            duplicates_exact=self._repeats.exact,
            commonest_query=self._queries.share() if self._queries.total else None,
            chosen_longer=self._longer / self._choices if self._choices else None,
            letters=dict(sorted(self._letters.items())),
            directions=self._coverage(),
            origin=self.origin.figures(),
        )

    def _coverage(self) -> DirectionCoverage | None:
        if not self.traits["directions"]:
            return None
        return DirectionCoverage(
            rows=self.traits["directions"],
            all_neutral=self.traits["all neutral"],
            per_row=self._spreads["directions set"].quantiles(),
            values={f"{value:g}": count for value, count in sorted(self._values.items())[:20]},
            never_set=[index for index, is_set in enumerate(self._set) if not is_set],
        )

    def warnings(self) -> list[str]:
        """A sentence for each trap; none for few rows."""
        return list(self._find_warnings()) if self.rows >= FEW else []

    def _find_warnings(self) -> Iterator[str]:
        queries, longer = self._queries, self._longer / self._choices if self._choices else 0.5
        if queries.total >= FEW and queries.share() > 0.5:
            yield (
                f"{queries.share():.0%} of the queries are one and the same text: a preparation that overwrites "
                "queries leaves this behind; only data of a single task looks so by nature"
            )
        letters = self._letters.total()
        if letters >= FEW and (most := max(self._letters.values())) > 0.9 * letters:
            yield f"{most / letters:.0%} of the letter replies are the same letter: the order of the items is fixed"
        if abs(longer - 0.5) > 0.15:
            yield f"the chosen text is the longer one in {longer:.0%} of the choices: length alone would win"
        if self._repeats.share() > 0.01:
            yield f"{self._repeats.share():.1%} of the rows are duplicates"
        for name, (least, sentence) in WARNINGS.items():
            if self.traits[name] > max(1, least * self.rows):
                yield f"{self.traits[name]} rows ({self.traits[name] / self.rows:.1%}) {sentence}"
        yield from self._direction_warnings()

    def _direction_warnings(self) -> Iterator[str]:
        total = self.traits["directions"]
        if total and self.traits["all neutral"] > 0.01 * total:
            yield (
                f"{self.traits['all neutral']} rows ({self.traits['all neutral'] / total:.1%}) have neutral directions "
                "only: PBA has nothing to say for them"
            )
        if 0 < total < self.rows:
            yield f"{self.rows - total} rows have no directions, {total} have them"
        if total >= 1000 and not all(self._set):
            yield f"{self._set.count(False)} of {PREFERENCE_DIMENSIONS} dimensions are neutral in every row"


WARNINGS: dict[str, tuple[float, str]] = {
    "history of the row before": (
        0.01,
        "repeat a part of the history of the row before: several rows of one user, or leftovers where a count was 0",
    ),
    "target in history": (0.0, "hold their own target in the history: the answer can be copied"),
    "empty choice": (0.0, "hold a choice between two equal texts in the history"),
    "too long": (
        0.0,
        f"may be longer than {PROMPT_TOKENS} tokens: drop oldest choices; cutting on the left loses the instruction",
    ),
    "no system message": (0.0, "have no system message"),
    "no thinking": (0.0, "have a completion without </think>"),
    "no summary": (0.0, "have a completion that holds no summary"),
}
"""By trait: the share of rows above which it is a warning, and its sentence."""


def _too_long(texts: Sequence[str]) -> bool:
    if 2 * sum(map(len, texts)) <= PROMPT_TOKENS:  # no character counts for more than two tokens
        return False
    return sum(map(estimate_tokens, texts)) > PROMPT_TOKENS


def _queries(texts: Sequence[str]) -> list[str]:
    return [ours or theirs for text in texts for ours, theirs in QUERY_IN_PROMPT.findall(text)]


def _history_parts(row: Row) -> list[int]:
    """A fingerprint for each part of the row that describes the user, 0 for an empty one."""
    if isinstance(row, AlignXRow):
        posts = [text for post in row.posts for text in (post.prompt, post.comment)]
        return [_print([row.demographic] if row.demographic else []), _print(posts), _print(_flat(row.pairs))]
    if isinstance(row, SftRow):
        return [_print([row.prompt[-1].content])]
    if isinstance(row, PairRow):  # system, history, acknowledgement, request
        return [_print([turn.content for turn in row.prompt[:-1] if turn.role == "user"])]
    return [_print(_flat(row.triples()))]


def _flat(triples: Sequence[Triple]) -> list[str]:
    return [text for triple in triples for text in triple.texts()]


def _print(texts: Sequence[str]) -> int:
    return fingerprint(*texts) if texts else 0
