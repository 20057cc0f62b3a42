"""How much each scorer counts in a fused selection: weights that a tenant's own choices earn.

The scorers are the fast profile, the engine by the summary's *text*, and the engine by the *contrast* of the user's
earlier choices. Whenever a choice arrives that no summary has read, each gives its log-odds of the chosen item against
a rejected one. Their sums fade with age and give, in closed form, the weights of linear discriminant analysis (Fisher
1936): the log-odds of the choice itself. No more is kept, and no word of a user.

The engine's scorers weigh 0 until they beat a coin by the 95 % interval, and again as soon as the mixture foresees
fewer of the latest choices than the profile alone.
"""

from collections.abc import Mapping, Sequence
from math import asinh, log, sqrt
from typing import Final, Literal, NamedTuple

import numpy as np

from alignx.schemas.items import Item
from services.profile.scoring import interval, softmax

Kind = Literal["texts", "items"]
"""What a choice is between: written texts, or things of a catalogue. Weights are learned of each alone."""
KEEP: Final = 1 - 1 / 200
"""What a further comparison leaves of the sums."""
MAX_GAIN: Final = 6.0
"""Choices that a mixture may be ahead of the profile; so a long good past does not hide that it harms now."""
_PRIOR: Final = 20.0
"""Comparisons that count beforehand, in which the profile is right as often as it says, and the engine's scorers are
noise."""
_MAX_ODDS: Final = log(1000)
"""Between the items of a selection, unless the profile alone is surer."""
_LEAST: Final = 0.001
"""A smaller weight changes nothing, and is none."""
_FLOOR: Final = 1e-9
"""Smallest probability whose logarithm is taken."""


class LogOdds(NamedTuple):
    """A number for each scorer: what it says of the chosen item against a rejected one, or its weight."""

    profile: float = 0.0
    text: float = 0.0
    contrast: float = 0.0

    def weigh(self, weights: "LogOdds") -> float:
        return sum(weight * value for weight, value in zip(weights, self, strict=True))


Weights = LogOdds
PROFILE_ALONE: Final = Weights(profile=1.0)
ENGINE_SCORERS: Final = LogOdds._fields[1:]


class Comparison(NamedTuple):
    """One choice as all scorers saw it beforehand."""

    kind: Kind
    odds: LogOdds


def kind_of(items: Sequence[Item]) -> Kind:
    return "texts" if all(isinstance(item, str) for item in items) else "items"


def fuse(
    weights: Weights, profile: Sequence[float], text: Sequence[float], contrast: Sequence[float] | None = None
) -> list[float]:
    """The probabilities of items, from those by profile and text and the log-odds by contrast."""
    columns = item_scores(profile, text, contrast)
    scores = [LogOdds(*row).weigh(weights) for row in zip(*columns, strict=True)]
    surest = max(_MAX_ODDS, _spread(columns[0]))  # weights that are learned of small differences say too much of large
    return softmax([score * surest / max(surest, _spread(scores)) for score in scores])


def item_scores(
    profile: Sequence[float], text: Sequence[float], contrast: Sequence[float] | None
) -> tuple[list[float], list[float], list[float]]:
    """Each scorer's log-odds of the items; the engine's are damped, for it may be very sure and wrong."""
    by_contrast = _damp(contrast) if contrast is not None else [0.0] * len(profile)
    return _logs(profile), _damp(_logs(text)), by_contrast


def compare(
    profile: Sequence[float], text: Sequence[float], contrast: Sequence[float] | None, chosen: int, rejected: int
) -> LogOdds:
    return LogOdds(*(column[chosen] - column[rejected] for column in item_scores(profile, text, contrast)))


def additions(sums: Mapping[str, float], comparison: Comparison) -> dict[str, float]:
    """What a comparison adds to a tenant's sums. There is no constant term: which item stands first says nothing."""
    odds, learned = comparison.odds, _learn(sums, comparison.kind)
    added = {"n": 1.0, "gain": _hit(odds.weigh(learned)) - _hit(odds.profile)}
    for first, (name, value) in enumerate(zip(LogOdds._fields, odds, strict=True)):
        added |= {f"{name}.right": _hit(value), f"{name}.mean": value}
        added |= {f"{name}.{other}": value * odds[first + step] for step, other in enumerate(LogOdds._fields[first:])}
    return {f"{comparison.kind}.{name}": value for name, value in added.items()}


def add(sums: Mapping[str, float], added: Mapping[str, float]) -> dict[str, float]:
    """The sums with a further comparison, as lua/weigh.lua computes them."""
    new = {name: KEEP * sums.get(name, 0.0) + value for name, value in added.items()}
    return {**sums, **{name: min(value, MAX_GAIN) if name.endswith(".gain") else value for name, value in new.items()}}


def learned_weights(sums: Mapping[str, float], kind: Kind, engine: Sequence[str] = ENGINE_SCORERS) -> Weights:
    """The weights by which items are scored, where of the engine's scorers those of `engine` say something."""
    return PROFILE_ALONE if sums.get(f"{kind}.gain", 0.0) < 0 else _learn(sums, kind, engine)


def _learn(sums: Mapping[str, float], kind: Kind, engine: Sequence[str] = ENGINE_SCORERS) -> Weights:
    """The weights that fit best, of the profile and the scorers that beat a coin; none is negative."""
    count = sums.get(f"{kind}.n", 0.0)
    names = ["profile", *(name for name in engine if count and _beats_coin(sums, f"{kind}.{name}", count))]
    while names != ["profile"] and names:
        fitted = dict(zip(names, _discriminant(sums, kind, names), strict=True))
        useful = [name for name in names if fitted[name] > _LEAST]
        if useful == names:
            return Weights(**{"profile": 0.0, **fitted})
        names = useful
    return PROFILE_ALONE


def _beats_coin(sums: Mapping[str, float], scorer: str, count: float) -> bool:
    return interval(sums[f"{scorer}.right"] / count, count)[0] > 0.5


def _discriminant(sums: Mapping[str, float], kind: Kind, names: Sequence[str]) -> list[float]:
    """The weights of linear discriminant analysis: the log-odds of a choice whose differences are Gaussian."""
    count = sums[f"{kind}.n"]
    seen = count / (count + _PRIOR)
    means = [seen * sums[f"{kind}.{name}.mean"] / count for name in names]
    if names[0] == "profile":  # log-odds of this spread that are right as often as they say have this mean
        means[0] += (1 - seen) * (sqrt(1 + sums[f"{kind}.profile.profile"] / count) - 1)
    moments = np.zeros((len(names), len(names)))
    for row, first in enumerate(names):
        for column, second in enumerate(names[row:], row):
            share = 1.0 if row == column else seen
            moments[row, column] = moments[column, row] = share * sums[f"{kind}.{first}.{second}"] / count
    definite = moments + _FLOOR * np.identity(len(names))
    solution: list[float] = np.linalg.solve(definite, means).tolist()
    separation = sum(mean * value for mean, value in zip(means, solution, strict=True))
    # all foreseen choices separate fully: what they say on average is bounded by the rule of succession
    odds = min(2 * separation / max(1 - separation, _FLOOR), log(count + _PRIOR + 1))
    return [value * odds / max(separation, _FLOOR) for value in solution]


def _spread(values: Sequence[float]) -> float:
    return max(values) - min(values)


def _hit(log_odds: float) -> float:
    return 0.5 if log_odds == 0 else float(log_odds > 0)


def _logs(probabilities: Sequence[float]) -> list[float]:
    return [log(max(probability, _FLOOR)) for probability in probabilities]


def _damp(values: Sequence[float]) -> list[float]:
    middle = sum(values) / len(values)
    return [asinh(value - middle) for value in values]
