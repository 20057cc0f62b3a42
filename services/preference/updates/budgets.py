"""How an engine's window is shared between what an update shows and what it may write.

In a window of 8,192 tokens the settings hold; in a smaller one each part gets its share of it.
"""

from dataclasses import dataclass

from services.prompts.build import estimate_tokens
from services.prompts.profiles import PromptProfile, fixed_text
from services.settings import SummarySettings

LEAST_EVENT_TOKENS = 48
"""A smaller budget shows nothing of an event."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """Estimated tokens of each part of an update."""

    reply: int
    past: int
    events: int
    history: int
    """The events of a rebuild, which shows no past summary."""

    def halve(self) -> "Budgets":
        return Budgets(self.reply // 2, self.past // 2, self.events // 2, self.history // 2)


def share_window(window: int, settings: SummarySettings, prompts: PromptProfile, own: str = "") -> Budgets:
    """`own` is the text that the user pinned: the past summary, which it heads, has so much more room."""
    reply = min(settings.max_tokens or prompts.max_tokens, window // 4)
    past = min(settings.past_tokens, window // 8) + min(estimate_tokens(own), window // 4)
    # The margin is for chat templates and for estimates that are too low.
    instructions = estimate_tokens(fixed_text(prompts))
    history = max(LEAST_EVENT_TOKENS, window - reply - instructions - window // 16)
    return Budgets(reply, past, max(LEAST_EVENT_TOKENS, min(settings.batch_tokens, history - past)), history)
