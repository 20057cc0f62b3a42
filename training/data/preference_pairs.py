"""Preference pairs from AlignX rows: the user's history, a request, two replies.

In mode ica the prompt shows the user's choices themselves; in mode pba it names, in words, their common
directions. Both prompts are the served ones (services/prompts/build.py). No row reuses the history of the
row before, nor the directions of its own target: one without any evidence is left out.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from alignx.schemas.interactions import ComparisonInteraction, Interaction
from services.prompts.build import ChatMessage, chat_prompt, fit_interactions
from training.data.formats import AlignXRow, PairRow, interactions
from training.data.tokens import LENGTH, Columns, Encoder

Mode = Literal["ica", "pba"]
Shown = Literal["comparisons", "drawn", "all"]
DRAWN: Final = 4
"""Most posts, and most choices, that `draw_evidence` keeps."""


def draw_evidence(row: AlignXRow) -> AlignXRow:
    """The row with 0 to 4 of its posts and 0 to 4 of its choices, in their order; with up to 4 of each where both
    numbers are 0. So AlignX trains for users of whom little of one kind is known. The row's own texts are the seed."""
    rng = random.Random("\0".join(row.texts()))
    counts = [rng.randint(0, DRAWN), rng.randint(0, DRAWN)]
    parts = {"posts": [post for post in row.posts if post.comment.strip()], "pairs": row.pairs}
    if not any(map(min, counts, map(len, parts.values()))):
        counts = [DRAWN, DRAWN]
    kept = {
        name: tuple(part[index] for index in sorted(rng.sample(range(len(part)), min(count, len(part)))))
        for (name, part), count in zip(parts.items(), counts, strict=True)
    }
    return row.model_copy(update={"demographic": "", **kept})


def select_history(row: AlignXRow, *, shown: Shown, most: int, tokens: int) -> list[Interaction]:
    """The latest `most` events of the user, within `tokens` by estimate; the oldest are dropped."""
    events = list[Interaction](row.comparisons()) if shown == "comparisons" else interactions(row)
    return list(fit_interactions(events[-most:], tokens))


def select_directions(row: AlignXRow, *, most: int) -> list[Interaction]:
    """The latest posts and choices that have directions, of which mode pba reads nothing else. Those of the row
    itself are its target's: a prompt that named them would give the answer away."""
    posts = [post for post in row.posts if post.directions and post.comment.strip()]
    evidence = [
        *(ComparisonInteraction(chosen=post.comment, rejected="", directions=post.directions) for post in posts),
        *(choice for choice in row.comparisons() if choice.directions),
    ]
    return list(evidence[-most:])


def row_prompt(row: AlignXRow, mode: Mode, *, shown: Shown, most: int, tokens: int) -> list[ChatMessage] | None:
    """The prompt of a pair; None when it would show nothing of the user."""
    row = draw_evidence(row) if shown == "drawn" else row
    pba = mode == "pba"
    history = select_directions(row, most=most) if pba else select_history(row, shown=shown, most=most, tokens=tokens)
    request = ChatMessage(role="user", content=row.prompt)
    messages = chat_prompt([request], mode=mode, summary=None, history=history).messages
    return messages if len(messages) > 1 else None


COLUMNS: Final = ("prompt_ids", "chosen_ids", "rejected_ids")


@dataclass(kw_only=True)
class AlignXEncoder(Encoder[AlignXRow]):
    kind = AlignXRow
    columns = COLUMNS
    mode: Mode
    shown: Shown
    max_history: int
    history_tokens: int

    def encode(self, rows: Sequence[AlignXRow]) -> list[Columns]:
        limits = {"most": self.max_history, "tokens": self.history_tokens}
        pairs = [(row_prompt(row, self.mode, shown=self.shown, **limits), row.chosen, row.rejected) for row in rows]
        return encode_pairs(self, [(prompt, chosen, rejected) for prompt, chosen, rejected in pairs if prompt])


@dataclass(kw_only=True)
class PairEncoder(Encoder[PairRow]):
    """Pairs that were made elsewhere; those without the prompt that is asked for are left out."""

    kind = PairRow
    columns = COLUMNS
    bridged: bool

    def encode(self, rows: Sequence[PairRow]) -> list[Columns]:
        prompts = [(row.bridged if self.bridged else row.prompt, row) for row in rows]
        return encode_pairs(
            self,
            [
                ([turn.model_dump() for turn in prompt], row.chosen[0].content, row.rejected[0].content)
                for prompt, row in prompts
                if prompt
            ],
        )


def encode_pairs(encoder: Encoder[Any], pairs: Sequence[tuple[Sequence[Any], str, str]]) -> list[Columns]:
    """(messages, chosen, rejected) → columns; leaves out pairs with a text that is too long."""
    if not pairs:
        return []
    prompts = encoder.prompts([messages for messages, _, _ in pairs])
    all_chosen = encoder.encode_replies(prompts, [chosen for _, chosen, _ in pairs])
    all_rejected = encoder.encode_replies(prompts, [rejected for _, _, rejected in pairs])
    return [
        {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected, LENGTH: len(prompt + chosen + rejected)}
        for prompt, chosen, rejected in zip(encoder.ids(prompts), all_chosen, all_rejected, strict=True)
        if len(prompt) + max(len(chosen), len(rejected)) <= encoder.max_length
    ]
