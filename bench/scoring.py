"""Ranking 1,000 candidates by the fast profile alone: words, categories, meaning, and what the user said.

On one core, in this process; `known` are titles whose words were seen before, as in a catalogue, `fresh` those of which
each has a word that was not.
"""

import random
import time

from alignx.schemas.interactions import Interaction, PurchaseInteraction, StatementInteraction
from alignx.schemas.items import ItemFields
from bench.page import Row, median_ms
from services.profile.fold import fold
from services.profile.scoring import scores
from services.profile.statistics import EMPTY
from services.profile.style_features import LEXICON

CANDIDATES, ROUNDS, WORDS = 1_000, 30, 8
SAID = ("I love football.", "No politics, please.", "I am vegan.", "I hate celebrity gossip.", "I never miss opera.")


def measure() -> list[Row]:
    profile = EMPTY
    events: list[Interaction] = [PurchaseInteraction(item=item) for item in _items(60, "known")]
    for event in [*events, *(StatementInteraction(text=text) for text in SAID)]:
        profile, _ = fold(profile, event)
    seconds: dict[str, list[float]] = {"known": [], "fresh": []}
    for kind, times in seconds.items():
        for number in range(-1, ROUNDS):  # the first round fills the caches
            items = _items(CANDIDATES, f"{kind} {number if kind == 'fresh' else ''}")
            started = time.thread_time()
            scores(profile, "", items)
            times += [time.thread_time() - started] if number >= 0 else []
    return [
        Row(f"score {CANDIDATES:,} candidates, known words, p50", median_ms(seconds["known"]), "ms of a core", "≤ 30"),
        Row(f"score {CANDIDATES:,} candidates, fresh words, p50", median_ms(seconds["fresh"]), "ms of a core"),
    ]


def _items(count: int, kind: str) -> list[ItemFields]:
    source, vocabulary = random.Random(kind), sorted(LEXICON)
    fresh = kind.startswith("fresh")
    return [
        ItemFields(
            title=" ".join(source.choices(vocabulary, k=WORDS)) + (f" {source.getrandbits(32):x}" if fresh else ""),
            category=source.choice(("sports", "news", "lifestyle", "travel")),
        )
        for _ in range(count)
    ]
