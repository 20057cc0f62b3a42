"""Drift: the text of a user whose taste stays says the same after each event, and follows a real turn.

Simulated users like two categories of a catalogue and, nine times in ten, take an item of these instead of two others;
at first they say so. After 200 events the user turns to a category that they had passed over: one says so, one only
chooses. A claim is what a sentence of the text says of one topic or style; its examples and figures may move. Stale
is a text that, read back by itself, still puts an item of the old category before one of the new.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from alignx.schemas.interactions import ClickInteraction, Interaction, StatementInteraction
from alignx.schemas.items import ItemFields
from evaluation.cases.cases import fold_events
from evaluation.results import Estimate
from evaluation.scoring.intervals import estimate
from services.profile.claims.sentences import sentences
from services.profile.fold import apply_own_text
from services.profile.render import render
from services.profile.scoring import probabilities
from services.profile.statistics import EMPTY, Profile

USERS: Final = 30
EVENTS: Final = 200
WARM_UP: Final = 30
"""Events before claims must be settled."""
FAITHFUL: Final = 0.9
"""Share of choices that follow the taste."""
TURN_CHOICES: Final = 20
CATALOGUE: Final = {
    "films": ("Comedy", "Horror", "Western", "Documentary", "Animation", "Musical"),
    "books": ("Poetry", "Crime", "Biography", "Fantasy", "History", "Travel"),
    "recipes": ("Soups", "Salads", "Desserts", "Curries", "Breads", "Grills"),
    "news": ("Politics", "Sports", "Science", "Business", "Culture", "Health"),
}
FIRST: Final = ("Quiet", "Golden", "Last", "Hidden", "Broken", "Little", "Northern", "Silver", "Second", "Wild")
SECOND: Final = ("Harbour", "Letter", "Garden", "Summer", "Mirror", "River", "Station", "Window", "Journey", "Clock")


@dataclass(frozen=True)
class SimulatedUser:
    seed: int

    @property
    def categories(self) -> list[str]:
        """The first two are liked; all in an order of their own."""
        kinds = list(CATALOGUE.values())[self.seed % len(CATALOGUE)]
        return random.Random(self.seed).sample(kinds, len(kinds))

    def events(self, count: int, liked: Sequence[str], seed: str) -> Iterator[Interaction]:
        rng = random.Random(f"{self.seed} {seed}")
        others = [name for name in self.categories if name not in liked]
        for _ in range(count):
            shown = [draw_item(rng, rng.choice(liked)), *(draw_item(rng, name) for name in rng.sample(others, 2))]
            taken = shown[0] if rng.random() < FAITHFUL else rng.choice(shown[1:])
            yield ClickInteraction(clicked=taken, shown=tuple(shown))

    def stable_history(self) -> list[Interaction]:
        liked = self.categories[:2]
        return [StatementInteraction(text=f"I love {liked[0].lower()}."), *self.events(EVENTS - 1, liked, "stable")]


def draw_item(rng: random.Random, category: str) -> ItemFields:
    return ItemFields(title=f"The {rng.choice(FIRST)} {rng.choice(SECOND)}", category=category)


def claims(profile: Profile) -> set[str]:
    """The keys of what the text claims."""
    return {key for sentence in sentences(profile) for key in (sentence.key, *sentence.about)}


def measure_drift(users: int = USERS) -> dict[str, Estimate]:
    """By name, with the bar that it should reach."""
    changed, owners, said, chosen = [], [], [], []
    for user in map(SimulatedUser, range(users)):
        profile, before = EMPTY, set[str]()
        for number, event in enumerate(user.stable_history(), 1):
            profile = fold_events((event,), profile)
            after = claims(profile)
            if number > WARM_UP:
                changed.append(float(not before <= after))
                owners.append(user.seed)
            before = after
        old, kept, new = user.categories[:3]
        told = StatementInteraction(text=f"I no longer like {old.lower()}. Now I love {new.lower()}.")
        said.append(is_stale(fold_events((told,), profile), old, new))
        chosen.append(is_stale(fold_events(user.events(TURN_CHOICES, (new, kept), "turned"), profile), old, new))
    return {
        f"drift: updates {WARM_UP + 1} to {EVENTS} that change or drop a claim (0)": estimate(changed, clusters=owners),
        "drift: stale after the user says so (≤ 2 %)": estimate(said),
        f"drift: stale after {TURN_CHOICES} choices (≤ 2 %)": estimate(chosen),
    }


def is_stale(profile: Profile, old: str, new: str) -> float:
    """A tie counts half."""
    read_back = apply_own_text(EMPTY, render(profile))
    first, second = (ItemFields(title="The Item", category=name) for name in (old, new))
    of_old, of_new = probabilities(read_back, "", (first, second))
    return 0.5 if of_old == of_new else float(of_old > of_new)
