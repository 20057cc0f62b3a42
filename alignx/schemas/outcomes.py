"""What became of answers: feedback, and the figures of users served with and without personalization."""

from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, NonNegativeInt, StringConstraints, model_validator

from alignx.schemas.items import Frozen, UserId

Arm = Literal["control", "personalized"]
"""control: the share of users who are served without personalization."""
Kind = Literal["chat", "selection", "recommendation"]
"""Of an answer."""
_OMITTED = frozenset({"response_id", "arm", "learn"})
"""Fields that an answer leaves out where they say nothing."""
Measure = Literal["accuracy", "click_rate", "feedback_rate"]


class Served(Frozen):
    """What an answer says of itself."""

    response_id: str | None = None
    """Names the answer in `POST /v1/feedback`; null where the tenant's setting `feedback_s` keeps none."""
    arm: Arm | None = None
    """Whether the user is served with personalization; null where the tenant holds out none."""

    def document(self) -> dict[str, Any]:
        """The fields, but for those that say nothing."""
        return {name: value for name, value in self if value is not None or name not in _OMITTED}


ReplyText = Annotated[str, StringConstraints(min_length=1, max_length=32_000)]


class FeedbackRequest(Frozen):
    """What a user made of an answer. At least one of `thumb`, `picked` and the two replies."""

    response_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    """As the answer gave it."""
    user: UserId | None = None
    """Who got the answer; default: the header X-User-Id, or the user of the token."""
    thumb: Literal["up", "down"] | None = None
    """A later one takes the place of an earlier one."""
    picked: NonNegativeInt | None = None
    """The `index` of the item that the user took, of a selection or recommendation."""
    query: str = ""
    chosen: ReplyText | None = None
    """Of two replies to `query`, such as the answer and its regeneration, the one that the user kept."""
    rejected: ReplyText | None = None
    """The other one. With `chosen` it becomes a comparison of the user's history, once for a response id. Without a
    `thumb` it counts as a thumb down: the user wanted another answer."""

    @model_validator(mode="after")
    def _check_content(self) -> Self:
        if (self.chosen is None) != (self.rejected is None):
            raise ValueError("chosen and rejected go together")
        if (self.thumb, self.picked, self.chosen) == (None, None, None):
            raise ValueError("name a thumb, the picked item, or the chosen and the rejected reply")
        return self


class FeedbackStored(Frozen):
    """The feedback is counted."""

    response_id: str
    event_id: str | None = None
    """The comparison in the user's history; null without two replies."""


class Rate(Frozen):
    """A share of trials, over users who may have many."""

    users: NonNegativeInt = 0
    trials: NonNegativeInt = 0
    successes: NonNegativeInt = 0
    rate: float | None = None
    """Null without a trial."""
    low: float | None = None
    """Lower end of the 95 % interval, which allows for a user's trials being alike; null below two users."""
    high: float | None = None


class ArmFigures(Frozen):
    """What became of the answers to the users of one arm."""

    served: dict[Kind, NonNegativeInt]
    """Answers."""
    accuracy: Rate
    """Selections whose choice the user took, of those of which the user then took an item."""
    click_rate: Rate
    """Recommendations of which the user then took an item, of all."""
    feedback_rate: Rate
    """Thumbs up, of all thumbs."""


class Difference(Frozen):
    """Personalized less control, with its 95 % interval."""

    value: float
    low: float
    high: float


class Uplift(Frozen):
    """Whether personalization is worth it, at the tenant's present `holdout_share`."""

    holdout_share: float
    since: AwareDatetime | None = None
    """When the first of the answers was served; null without one."""
    until: AwareDatetime | None = None
    """When the latest was."""
    arms: dict[Arm, ArmFigures]
    uplift: dict[Measure, Difference]
    """Without the measures that fewer than two users of an arm have."""
