"""Which prompts a model reads: those that it was trained with.

A `PromptProfile` makes the prompts of summaries and choices, not those of chats. `own` is
services/prompts/build.py. `alignxplore-plus` is the format of the released AlignXplore+ checkpoint with sentences of
our own; a file that services/prompts/official.py writes has the public ones. `alignxplore` is the streaming format of
AlignXplore: one text that ends with <think>, which goes to /v1/completions. Serving, training and evaluation call the
same objects.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final, Protocol

from alignx.schemas.interactions import Interaction
from alignx.schemas.items import Item, item_text
from services.prompts import build
from services.prompts.alignxplore_plus import AlignXplorePlus, read_texts
from services.prompts.build import Prompt


class PromptProfile(Protocol):
    """Pure functions from data to a prompt."""

    @property
    def max_tokens(self) -> int:
        """Tokens that an update may write where no setting says otherwise, reasoning included."""
        ...

    def update_prompt(
        self, past: str | None, interactions: Sequence[Interaction], *, past_tokens: int, whole_history: bool = False
    ) -> Prompt:
        """As `build.update_prompt`; without a `past` it is a first inference, or one from the `whole_history`."""
        ...

    def selection_prompt(
        self, query: str, items: Sequence[Item], summary: str | None, history: Sequence[Interaction] = ()
    ) -> Prompt:
        """As `build.selection_prompt`; one of `build.LETTERS` follows the last message."""
        ...

    def interaction_tokens(self, interaction: Interaction) -> int:
        """Estimated tokens of an event in a prompt."""
        ...

    def shows(self, interactions: Sequence[Interaction]) -> bool:
        """Whether an update prompt says anything of these events."""
        ...


class OwnPrompts:
    """The prompts of services/prompts/build.py."""

    max_tokens = 1_024

    def update_prompt(
        self, past: str | None, interactions: Sequence[Interaction], *, past_tokens: int, whole_history: bool = False
    ) -> Prompt:
        return build.update_prompt(past, interactions, past_tokens=past_tokens)

    def selection_prompt(
        self, query: str, items: Sequence[Item], summary: str | None, history: Sequence[Interaction] = ()
    ) -> Prompt:
        return build.selection_prompt(query, list(map(item_text, items)), summary, history)

    def interaction_tokens(self, interaction: Interaction) -> int:
        return build.interaction_tokens(interaction)

    def shows(self, interactions: Sequence[Interaction]) -> bool:
        return True


def fixed_text(prompts: PromptProfile) -> str:
    """What an update prompt says without data: the instructions."""
    return "\n".join(message["content"] for message in prompts.update_prompt(None, (), past_tokens=0).messages)


OWN: Final[PromptProfile] = OwnPrompts()
_FILES: Final = {name: Path(__file__).with_name(f"{name}.toml") for name in ("alignxplore", "alignxplore-plus")}
SHIPPED: Final = _FILES["alignxplore-plus"]


@cache
def load_profile(name: str) -> PromptProfile:
    """The profile of this name, or that of a file. Raises ValueError, which names what is wrong."""
    if name == "own":
        return OWN
    return AlignXplorePlus(read_texts(_FILES.get(name) or Path(name)))
