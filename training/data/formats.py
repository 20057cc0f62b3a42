"""The rows that training reads, as typed records: one class for each public format, one for our own.

    alignx       prompt, chosen, rejected, and what is known of the user: 90 preference directions, a
                 description, posts, comparisons. P-Soups rows are of this kind, without directions.
    alignxplore  task, chosen, rejected, history
    sft          prompt and completion, as messages or texts; AlignXplore's prompt and response; messages alone
    rl           uid, history, mid_position: two stages of a streamed history, each with its target
    upi          userid, history, target
    behaviours   uid, topic, history without a target: users to synthesize rows of
    pairs        prompt, chosen and rejected, as messages or texts; the replies may repeat the prompt

A class checks what its stage relies on and is lenient elsewhere: it accepts absent, null and unknown
fields. Error messages name fields and rules, never a user's text.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from alignx.schemas.interactions import (
    PREFERENCE_DIMENSIONS,
    ComparisonInteraction,
    DemographicInteraction,
    Interaction,
    PostInteraction,
)
from training.data.conversations import (
    as_messages,
    check_reply,
    check_request,
    split_conversation,
    split_preferences,
)
from training.data.origin import Origin


def _text_or_empty(value: object) -> object:
    return "" if value is None else value


def _empty_list(value: object) -> object:
    return () if value is None else value


def _id_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _some_text(value: str) -> str:
    if not value.strip():
        raise ValueError("must hold text")
    return value


def _check_dimensions(value: tuple[float, ...] | None) -> tuple[float, ...] | None:
    if not value:
        return None
    if len(value) != PREFERENCE_DIMENSIONS:
        raise ValueError(f"must hold {PREFERENCE_DIMENSIONS} numbers")
    if not all(0 <= number <= 1 for number in value):
        raise ValueError("numbers must be within 0 and 1")
    return value


MaybeText = Annotated[str, BeforeValidator(_text_or_empty)]
SomeText = Annotated[str, AfterValidator(_some_text)]
UserName = Annotated[str | None, BeforeValidator(_id_text)]
Direction = Annotated[tuple[float, ...] | None, AfterValidator(_check_dimensions)]
"""1 for a dimension's first label, 0 for its second, 0.5 for neither; none or an empty list when unknown."""


class Record(BaseModel):
    """Base of rows and their parts: immutable; ignores unknown fields."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_by_name=True, validate_by_alias=True)


# --- parts of rows -----------------------------------------------------------------------------


class Triple(Record):
    """For `query` the user preferred `chosen` to `rejected`."""

    query: MaybeText = Field(default="", validation_alias=AliasChoices("query", "prompt"))
    chosen: MaybeText
    rejected: MaybeText
    source: str | None = None
    """What the items are, such as "news": a prompt asks for it where there is no query."""
    directions: Direction = Field(default=None, alias="Preference Direction")

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        if not self.chosen.strip() and not self.rejected.strip():
            raise ValueError("chosen and rejected are both empty")
        return self

    def comparison(self) -> ComparisonInteraction:
        return ComparisonInteraction(
            query=self.query or None,
            chosen=self.chosen,
            rejected=self.rejected,
            source=self.source,
            directions=self.directions,
        )

    def texts(self) -> tuple[str, str, str]:
        return self.query, self.chosen, self.rejected


class Post(Record):
    """What the user wrote under a post; a plain text is a comment under none."""

    prompt: MaybeText = ""
    comment: MaybeText
    directions: Direction = Field(default=None, alias="Preference Direction")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: object) -> object:
        return {"comment": value} if isinstance(value, str) else value


class ChatTurn(Record):
    role: Literal["system", "user", "assistant"]
    content: SomeText


def _different(triple: Triple) -> Triple:
    if triple.chosen == triple.rejected:
        raise ValueError("chosen and rejected are the same text")
    return triple


Target = Annotated[Triple, AfterValidator(_different)]
Triples = Annotated[tuple[Triple, ...], BeforeValidator(_empty_list)]
History = Annotated[tuple[Triple, ...], Field(min_length=1)]
PromptTurns = Annotated[tuple[ChatTurn, ...], AfterValidator(check_request), as_messages("user")]
Reply = Annotated[tuple[ChatTurn, ...], AfterValidator(check_reply), as_messages("assistant")]


# --- rows --------------------------------------------------------------------------------------


class Row(Record):
    """One row: `kind` names its format in code, `label` in words; `other_fields` are read into those of the class."""

    kind: ClassVar[str]
    label: ClassVar[str]
    other_fields: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        if target := self.target():
            _different(target)
        return self

    def triples(self) -> tuple[Triple, ...]:
        """The choices made before the target, oldest first; empty for rows of messages."""
        return ()

    def target(self) -> Triple | None:
        """The choice to predict; none for rows of messages."""
        return None

    def comparisons(self) -> list[ComparisonInteraction]:
        return [triple.comparison() for triple in self.triples()]

    def texts(self) -> Iterator[str]:
        """Every text of the row that a model may read."""
        target = self.target()
        for triple in (*self.triples(), *((target,) if target else ())):
            yield from triple.texts()


class AlignXRow(Row):
    kind, label = "alignx", "AlignX"

    prompt: SomeText
    chosen: MaybeText
    rejected: MaybeText
    directions: Direction = Field(default=None, alias="Preference Direction")
    demographic: MaybeText = Field(default="", alias="Demographic Information")
    posts: Annotated[tuple[Post, ...], BeforeValidator(_empty_list)] = Field(default=(), alias="User-Generated Content")
    pairs: Annotated[tuple[Triple, ...], BeforeValidator(_empty_list)] = Field(
        default=(), alias="Pair-wise Comparative Feedback"
    )

    def triples(self) -> tuple[Triple, ...]:
        return self.pairs

    def target(self) -> Triple:
        return Triple(query=self.prompt, chosen=self.chosen, rejected=self.rejected, directions=self.directions)

    def texts(self) -> Iterator[str]:
        yield self.demographic
        for post in self.posts:
            yield from (post.prompt, post.comment)
        yield from super().texts()


class AlignXploreRow(Row):
    kind, label = "alignxplore", "AlignXplore"

    task: SomeText
    chosen: MaybeText
    rejected: MaybeText
    history: Triples

    def triples(self) -> tuple[Triple, ...]:
        return self.history

    def target(self) -> Triple:
        return Triple(query=self.task, chosen=self.chosen, rejected=self.rejected)


class SftRow(Row):
    kind, label = "sft", "AlignXplore+ SFT"
    other_fields = ("messages",)

    prompt: PromptTurns
    completion: Reply = Field(validation_alias=AliasChoices("completion", "response"))
    origin: Origin | None = None
    _split = model_validator(mode="before")(split_conversation)

    def texts(self) -> Iterator[str]:
        return (turn.content for turn in (*self.prompt, *self.completion))


class RlRow(Row):
    """Stage 1 reads `first`, its target is `first_target`; stage 2 reads `second` and stage 1's summary."""

    kind, label = "rl", "AlignXplore+ RL"

    uid: UserName = None
    history: Annotated[tuple[Triple, ...], Field(min_length=3)]
    mid_position: int

    @model_validator(mode="after")
    def _check_position(self) -> Self:
        if not 0 < self.mid_position < len(self.history) - 1:
            raise ValueError("mid_position must be above 0 and below the last place of history")
        _different(self.first_target)
        return self

    @property
    def first(self) -> tuple[Triple, ...]:
        return self.history[: self.mid_position]

    @property
    def first_target(self) -> Triple:
        return self.history[self.mid_position]

    @property
    def second(self) -> tuple[Triple, ...]:
        return self.history[self.mid_position : -1]

    def triples(self) -> tuple[Triple, ...]:
        return self.history[:-1]

    def target(self) -> Triple:
        """The target of stage 2."""
        return self.history[-1]


class UpiRow(Row):
    kind, label = "upi", "UPI"

    userid: UserName = None
    history: History
    aim: Target = Field(alias="target")
    """The choice to predict, published as "target"."""

    def triples(self) -> tuple[Triple, ...]:
        return self.history

    def target(self) -> Triple:
        return self.aim


class BehavioursRow(Row):
    kind, label = "behaviours", "AlignXplore+ behaviours"

    uid: UserName = None
    topic: MaybeText = ""
    history: History

    def triples(self) -> tuple[Triple, ...]:
        return self.history


class PairRow(Row):
    kind, label = "pairs", "preference pairs (messages)"

    prompt: PromptTurns
    bridged: PromptTurns | None = None
    """A second prompt for the same replies, which names the user's directions (AlignX's pba_prompt)."""
    chosen: Reply
    rejected: Reply
    _split = model_validator(mode="before")(split_preferences)

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        if self.chosen == self.rejected:
            raise ValueError("chosen and rejected are the same text")
        return self

    def texts(self) -> Iterator[str]:
        return (turn.content for turn in (*self.prompt, *(self.bridged or ()), *self.chosen, *self.rejected))


ALIGNX_FIELDS = {info.alias for info in AlignXRow.model_fields.values() if info.alias}
"""What is known of the user: it tells an AlignX row from a pair of texts."""
KINDS: dict[str, type[Row]] = {
    row.kind: row for row in (AlignXRow, AlignXploreRow, SftRow, RlRow, UpiRow, BehavioursRow, PairRow)
}


def interactions(row: Row) -> list[Interaction]:
    """The user's events before the target, in the order of prompts: the description, the posts, the
    choices. Empty for rows of messages, which hold them as prompt text."""
    events: list[Interaction] = []
    if isinstance(row, AlignXRow):
        if row.demographic.strip():
            events.append(DemographicInteraction(text=row.demographic))
        written = (post for post in row.posts if post.comment.strip())
        events += [PostInteraction(prompt=post.prompt or None, text=post.comment) for post in written]
    return [*events, *row.comparisons()]
