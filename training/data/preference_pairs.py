"""Preference pairs out of AlignX rows: what a user was shown to like, a request, two replies.

In mode ica the prompt shows the user's choices themselves; in mode pba it names, in words, the
directions those choices have in common. Both prompts are the served ones (services/prompts/build.py).
Each row is read for itself: one without any choice shows nothing of its user and is left out, instead
of going on with what the row before it had.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

from alignx.schemas.interactions import ComparisonInteraction, Interaction
from services.prompts.build import ChatMessage, chat_prompt, fit_interactions
from training.data.formats import AlignXRow, PairRow, interactions
from training.data.tokens import LENGTH, Columns, Encoder

Mode = Literal["ica", "pba"]


def evidence(row: AlignXRow, *, shown: Literal["comparisons", "all"], most: int, tokens: int) -> list[Interaction]:
    """The latest `most` events of the user, within `tokens` by estimate; the oldest are dropped."""
    events = interactions(row) if shown == "all" else list[Interaction](row.comparisons())
    return list(fit_interactions(events[-most:], tokens))


def directed(row: AlignXRow, *, most: int) -> list[Interaction]:
    """The latest choices that say in which directions they lean; failing any, what the row itself
    says. In mode pba nothing else of them is read."""
    own = [each for each in row.comparisons() if each.directions]
    if own or not row.directions:
        return list(own[-most:])
    return [ComparisonInteraction(chosen=row.chosen, rejected=row.rejected, directions=row.directions)]


def asked(row: AlignXRow, history: Sequence[Interaction], mode: Mode) -> list[ChatMessage] | None:
    """The prompt of a pair; None when it would say nothing of the user."""
    request = ChatMessage(role="user", content=row.prompt)
    messages = chat_prompt([request], mode=mode, summary=None, history=history).messages
    return messages if len(messages) > 1 else None


COLUMNS: Final = ("prompt_ids", "chosen_ids", "rejected_ids")


class AlignXEncoder(Encoder[AlignXRow]):
    kind = AlignXRow
    columns = COLUMNS

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_length: int,
        mode: Mode,
        shown: Literal["comparisons", "all"],
        max_history: int,
        history_tokens: int,
    ) -> None:
        super().__init__(tokenizer, max_length=max_length)
        self.mode = mode
        self.shown = shown
        self.max_history = max_history
        self.history_tokens = history_tokens

    @property
    def settings(self) -> tuple[object, ...]:
        return (*super().settings, self.mode, self.shown, self.max_history, self.history_tokens)

    def encode(self, rows: Sequence[AlignXRow]) -> list[Columns]:
        found = [(self._asked(row), row.chosen, row.rejected) for row in rows]
        return encoded(self, [(prompt, chosen, rejected) for prompt, chosen, rejected in found if prompt])

    def _asked(self, row: AlignXRow) -> list[ChatMessage] | None:
        if self.mode == "pba":
            history = directed(row, most=self.max_history)
        else:
            history = evidence(row, shown=self.shown, most=self.max_history, tokens=self.history_tokens)
        return asked(row, history, self.mode)


class PairEncoder(Encoder[PairRow]):
    """Pairs that were made elsewhere."""

    kind = PairRow
    columns = COLUMNS

    def encode(self, rows: Sequence[PairRow]) -> list[Columns]:
        return encoded(
            self,
            [
                ([turn.model_dump() for turn in row.prompt], row.chosen[0].content, row.rejected[0].content)
                for row in rows
            ],
        )


def encoded(encoder: Encoder[Any], pairs: Sequence[tuple[Sequence[Any], str, str]]) -> list[Columns]:
    """(messages, chosen, rejected) → columns, of pairs of which both texts are short enough."""
    if not pairs:
        return []
    prompts = encoder.prompts([messages for messages, _, _ in pairs])
    chosen = [encoder.reply(prompt, pair[1]) for prompt, pair in zip(prompts, pairs, strict=True)]
    rejected = [encoder.reply(prompt, pair[2]) for prompt, pair in zip(prompts, pairs, strict=True)]
    ids, count = encoder.ids([*prompts, *chosen, *rejected]), len(pairs)
    found = zip(ids[:count], ids[count : 2 * count], ids[2 * count :], strict=True)
    return [
        {"prompt_ids": prompt, "chosen_ids": one, "rejected_ids": other, LENGTH: len(prompt) + len(one) + len(other)}
        for prompt, one, other in found
        if len(prompt) + max(len(one), len(other)) <= encoder.max_length
    ]
