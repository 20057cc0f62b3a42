"""What each feature of an item counts: weights that a tenant's own choices teach, one choice at a time.

A choice gives the differences of the features between the item taken and one that was not. The weights are those of a
logistic regression, learned online by the extended Kalman filter: a Gaussian around the weights takes a bounded step
at each choice, so there is no rate to set. It starts at the fixed weights, which are used again while the learned ones
foresee fewer choices than they do, by the 95 % interval. Each choice is foreseen before it is learned.
"""

from collections.abc import Mapping, Sequence
from math import exp, sqrt
from operator import mul
from typing import Final, Literal, NamedTuple

Kind = Literal["texts", "items", "drawn"]
"""What is learned apart: choices between texts, choices between items, and items taken alone, of which each is compared
with an item drawn from those that others met."""


class Features(NamedTuple):
    """A number for each feature of an item, or its weight."""

    profile: float = 0.0
    """Log-odds by the user's own profile."""
    given: float = 0.0
    """The popularity that the caller gives."""
    popularity: float = 0.0
    """Logarithm of how many users took it, fading."""
    rate: float = 0.0
    """Log-odds that a user who is shown it takes it."""
    recent_rate: float = 0.0
    """The same, of the last day."""
    neighbours: float = 0.0
    """How often those who took what the user took have taken it."""
    age: float = 0.0
    """Logarithm of the hours since it was first met."""

    def weigh(self, weights: "Features") -> float:
        return float(sum(map(mul, self, weights)))


FIXED: Final = Features(profile=1.0, given=1.0)
"""Weights while nothing is learned."""
COLD: Final = Features(profile=1.0, given=1.0, popularity=1.0, rate=0.5)
"""Weights for a user of whom nothing is known, while nothing is learned."""
LEAST: Final = 30
"""Choices from which weights are used."""
_VARIANCE: Final = Features(0.1, 0.1, *(0.25,) * 5)
"""Of each weight, around the fixed ones, before the first choice."""
_DRIFT: Final = 1e-4
"""Of that variance, what a further choice adds, so that old choices fade."""
_MAX_DIFFERENCE: Final = 6.0
_MAX_STEP: Final = 0.5
"""How far one choice moves a weight at most."""
_LEAST_INFORMATION: Final = 0.02
"""Of a choice that was foreseen or missed with certainty."""
_KEEP: Final = 1 - 1 / 1_000
"""What a further choice leaves of the sums by which both are compared."""
_NORMAL_95: Final = 1.96
_FEW: Final = 4.0
"""Choices foreseen by one of the two alone that are added to the variance, so that a few prove nothing."""
_SIZE: Final = len(FIXED)


_BEFORE: Final = tuple(
    tuple(variance if row == column else 0.0 for column in range(_SIZE)) for row, variance in enumerate(_VARIANCE)
)


class Mixture(NamedTuple):
    """The weights of one tenant for one kind of choices."""

    choices: float = 0.0
    gain: float = 0.0
    """Fading sum: choices that the learned weights foresaw and the fixed ones did not, less the reverse."""
    squares: float = 0.0
    """The same sum of squares: the variance of `gain`."""
    weights: Features = FIXED
    covariance: tuple[tuple[float, ...], ...] = _BEFORE

    @classmethod
    def parse(cls, text: str) -> "Mixture":
        """Raises ValueError for a text of another form."""
        numbers = list(map(float, text.split()))
        if len(numbers) != 3 + _SIZE + _SIZE**2:
            raise ValueError("not the weights of these features")
        flat = numbers[3 + _SIZE :]
        rows = (tuple(flat[start : start + _SIZE]) for start in range(0, _SIZE**2, _SIZE))
        choices, gain, squares = numbers[:3]
        return cls(choices, gain, squares, Features(*numbers[3 : 3 + _SIZE]), tuple(rows))

    def text(self) -> str:
        numbers = (self.choices, self.gain, self.squares, *self.weights, *(v for row in self.covariance for v in row))
        return " ".join(f"{number:.7g}" for number in numbers)

    @property
    def current(self) -> Features:
        """The weights to use: the fixed ones while little is learned, or while they foresee more choices."""
        is_worse = self.gain + _NORMAL_95 * sqrt(self.squares + _FEW) < 0
        return FIXED if self.choices < LEAST or is_worse else self.weights

    def learn(self, difference: Features) -> "Mixture":
        """After one more choice; `difference` is that of the item taken less the other."""
        x = [max(-_MAX_DIFFERENCE, min(_MAX_DIFFERENCE, value)) for value in difference]
        gain = hit(difference.weigh(self.weights)) - hit(difference.weigh(FIXED))
        missed = 1 / (1 + exp(min(30.0, sum(map(mul, self.weights, x)))))
        information = max(missed * (1 - missed), _LEAST_INFORMATION)
        spread = [sum(map(mul, row, x)) for row in self.covariance]
        scale = 1 + information * sum(map(mul, spread, x))
        steps = [missed * value / scale for value in spread]
        bound = _MAX_STEP / max(_MAX_STEP, *map(abs, steps))
        covariance = [
            [value - information * one * other / scale for value, other in zip(row, spread, strict=True)]
            for row, one in zip(self.covariance, spread, strict=True)
        ]
        for place, most in enumerate(_VARIANCE):
            covariance[place][place] = min(most, covariance[place][place] + _DRIFT * most)
        return Mixture(
            _KEEP * self.choices + 1,
            _KEEP * self.gain + gain,
            _KEEP * self.squares + gain * gain,
            Features(*(weight + bound * step for weight, step in zip(self.weights, steps, strict=True))),
            tuple(map(tuple, covariance)),
        )


def subtract(first: Features, second: Features) -> Features:
    return Features(*(one - other for one, other in zip(first, second, strict=True)))


def hit(log_odds: float) -> float:
    """1 for a choice that is foreseen, a half for a tie, else 0."""
    return 0.5 if log_odds == 0 else float(log_odds > 0)


def parse_mixtures(stored: Mapping[str, str]) -> dict[str, Mixture]:
    """By kind; weights of other features, as another release has learned them, do not count."""
    mixtures = {}
    for kind, text in stored.items():
        try:
            mixtures[kind] = Mixture.parse(text)
        except ValueError:
            continue
    return mixtures


def choose_weights(mixtures: Mapping[str, Mixture], kind: Kind, *, is_cold: bool = False) -> Features:
    """Those that the tenant's choices of the kind have taught; of items, else those of items taken alone. `is_cold` for
    a user of whom nothing is known."""
    kinds: Sequence[Kind] = (kind, "drawn") if kind == "items" else (kind,)
    for mixture in (mixtures[name] for name in kinds if name in mixtures):
        if mixture.choices >= LEAST:
            return mixture.current
    return COLD if is_cold else FIXED
