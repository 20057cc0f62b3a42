"""Bodies of the calls that forget single events of a user."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, StrictBool, StringConstraints

from alignx.schemas.items import Frozen

AboutText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class ForgetRequest(Frozen):
    """What to forget."""

    about: AboutText
    """An item's id or title, or words: events and claims in which all of them stand, whatever the case."""
    dry_run: StrictBool = False
    """Only tells what would be removed."""


class Forgotten(Frozen):
    """The receipt: what was removed, in numbers; of a dry run, what would be."""

    dry_run: bool = False
    event_ids: tuple[str, ...] = Field(default=(), examples=[["1763700000000-0"]])
    """Of the events removed, oldest first."""
    dead_letters: NonNegativeInt = 0
    """Of them, those that were set aside."""
    versions: NonNegativeInt = 0
    """Versions of the summary, with their claims and reasoning: those since the first of the events."""
    own_texts: NonNegativeInt = 0
    """Of them, those that the user wrote."""
    claims: NonNegativeInt = 0
    """Claims of these versions."""
    rejected_drafts: NonNegativeInt = 0
    checkpoint: bool = False
    """Whether what was known of events that had left the log went too."""
    version: NonNegativeInt = 0
    """The current version, 0 while there is none."""
    pending: NonNegativeInt = 0
    """Events that wait."""
    update_queued: bool = False
    """Whether a summary is written anew from what is left."""
