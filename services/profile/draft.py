"""A profile while one event is folded into it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from alignx.schemas.items import Item
from services.profile.claims.evidence import TELLING, prune_support, prune_titles, speak, style_keys, title_of
from services.profile.claims.standing import settle
from services.profile.item_features import ItemFeatures
from services.profile.serialize import round_to_half
from services.profile.stated.clauses import add, keep, roots_of
from services.profile.stated.memory import forget, remember
from services.profile.statistics import (
    FADE,
    FADE_BY_AGE,
    FADE_RECENT,
    MIDDLE_YEAR,
    RECENT_FADE_BY_AGE,
    Contrasts,
    Evidence,
    Price,
    Profile,
    day_of,
    fade_at,
)
from services.profile.word_table import Vectors
from services.profile.word_vectors import turn
from services.statements.attitudes import Clause

YEAR_HALF_LIFE = 8
"""Dated items after which the year of one counts half."""
FADE_YEAR = 0.5 ** (1 / YEAR_HALF_LIFE)

MAX_TERMS, KEEP_TERMS = 144, 108
MAX_CATEGORIES, KEEP_CATEGORIES = 40, 28
MAX_PRICES = 10
AGEING = 4
"""Hundredths of an occurrence by which an event's age lowers the rank of a name that may be dropped."""


class Draft:
    """A mutable copy of the parts of a profile that one event changes."""

    def __init__(self, profile: Profile, now: int, time: datetime | None = None) -> None:
        self.now, self.day = now, day_of(time)
        self.latest = max(profile.latest, int(time.timestamp())) if time else profile.latest
        self.contrasts = profile.contrasts
        self.tallies = profile.tallies
        self.terms = dict(profile.terms)
        self.categories = dict(profile.categories)
        self.clauses = profile.clauses
        self.years = profile.years
        self.direction = profile.direction
        self.own = profile.own
        self.standing = profile.standing
        self.support = dict(profile.support)
        self.titles = dict(profile.titles)
        self.prices = dict(profile.prices)
        self.left_out = profile.left_out
        self.memory = profile.memory

    def count(self, table: dict[str, Evidence], names: Iterable[str], weight: float) -> None:
        """Adds `weight` occurrences for (or, below 0, against) each name."""
        step = int(100 * weight)
        now = self.now
        plus, minus = (step, 0) if step > 0 else (0, -step)
        for name in names:
            evidence = table.get(name)
            if evidence is None:
                table[name] = (plus, minus, step, now)
                continue
            liked, disliked, recent, at = evidence
            if at != now:
                fade = fade_at(FADE_BY_AGE, now - at)
                liked, disliked = int(liked * fade), int(disliked * fade)
                recent = int(recent * fade_at(RECENT_FADE_BY_AGE, now - at))
            table[name] = (liked + plus, disliked + minus, recent + step, now)

    def like(self, view: ItemFeatures, weight: float) -> None:
        self.count(self.terms, view.terms, weight)
        self.count(self.categories, view.categories, weight)

    def speak(self, kind: str, sign: str, names: Iterable[str]) -> None:
        """The event speaks for the claims of one kind about each name."""
        speak(self.support, [f"{kind}:{sign}{name}" for name in names], self.now, self.titles)

    def name(self, item: Item) -> None:
        """The event took an item of this title."""
        if title := title_of(item):
            self.titles[self.now] = title

    def learn_style(self, difference: Sequence[float], weight: float) -> None:
        """One contrast of WIDTH entries, each already cut at 2."""
        old = self.contrasts
        size = abs(weight)
        self.contrasts = Contrasts(
            tuple([FADE * a + weight * d for a, d in zip(old.lean, difference, strict=True)]),
            tuple([FADE * b + size * d * d for b, d in zip(old.spread, difference, strict=True)]),
            tuple([FADE_RECENT * a + weight * d for a, d in zip(old.recent_lean, difference, strict=True)]),
            old.usual,
        )
        if size >= TELLING:
            speak(self.support, style_keys(difference, weight), self.now)
        counts = self.tallies
        self.tallies = counts._replace(
            weighed=FADE * counts.weighed + size, weighed_recent=FADE_RECENT * counts.weighed_recent + size
        )

    def take(self, view: ItemFeatures, weight: float) -> None:
        """The price and the year of an item that the user chose to have."""
        if weight <= 0:
            return
        if view.price is not None:
            label = next(iter(view.categories), "")
            self.prices[self.now] = Price(float(f"{2**view.price:.4g}"), view.currency, label)
        if view.year is not None:
            speak(self.support, ("year",), self.now)
            old = self.tallies
            year = view.year - MIDDLE_YEAR
            difference = abs(year - old.year / old.dated) if old.dated else 0.0
            self.tallies = old._replace(
                dated=FADE_YEAR * old.dated + weight,
                year=FADE_YEAR * old.year + weight * year,
                year_spread=FADE_YEAR * old.year_spread + weight * difference,
            )

    def turn(self, difference: Vectors, weight: float) -> None:
        """Towards what an event took, and away from what it passed over."""
        if weight > 0:
            self.direction, self.tallies = turn(self.direction, self.tallies, difference, weight)

    def say(self, said: Iterable[Clause], weight: float) -> None:
        """Clauses of a statement; beside statements only those that tell something."""
        tells = [clause for clause in said if clause.polarity or clause.past or clause.style or weight == 1]
        clauses = [clause for clause in tells if clause.kind != "none" or roots_of(clause.quote)]
        self.clauses = add(self.clauses, keep(clauses, self.now, weight, self.day))

    def remember(self, texts: Iterable[str]) -> None:
        self.memory = remember(self.memory, texts, self.now, self.day)

    def forget(self, text: str) -> None:
        self.memory = forget(self.memory, text)

    def profile(self) -> Profile:
        sums, tallies = round_to_half(self.contrasts, self.tallies)
        categories = _prune(self.categories, self.now, MAX_CATEGORIES, KEEP_CATEGORIES)
        support = prune_support(self.support, categories)
        profile = Profile(
            self.now,
            sums,
            tallies,
            _prune(self.terms, self.now, MAX_TERMS, KEEP_TERMS),
            categories,
            self.clauses,
            self.years,
            self.direction,
            self.own,
            self.standing,
            support,
            prune_titles(self.titles, support),
            dict(sorted(self.prices.items())[-MAX_PRICES:]),
            self.left_out,
            self.memory,
            self.latest,
        )
        return replace(profile, standing=settle(profile, self.day))


def _prune(table: dict[str, Evidence], now: int, most: int, keep: int) -> dict[str, Evidence]:
    """Drops the names with the least and oldest evidence once there are too many."""
    if len(table) <= most:
        return table

    ranked = [(entry[0] + entry[1] - AGEING * (now - entry[3]), name) for name, entry in table.items()]
    ranked.sort(reverse=True)
    return {name: table[name] for _, name in ranked[:keep]}
