"""Prequential quality: sums over all predictions of a user's choices, and the latest ones one letter each.

A letter stands for the probability that was given to what the user chose, in 50 steps; its middle one is a tie.
`CHANGE` marks where the user's preferences were found changed.
"""

from collections.abc import Mapping, Sequence
from string import ascii_letters
from typing import Any, Final

from alignx.schemas.summaries import Prequential, RecentQuality
from services.profile.scoring import interval

SCORERS: Final = ("profile", "engine")
WINDOW: Final = 50
"""Letters kept; a longer field would make Redis store the whole state in its larger form."""
CHANGE: Final = "|"
_STEPS: Final = 50
_LETTERS: Final = ascii_letters[: _STEPS + 1]
_VALUES: Final = {letter: step / _STEPS for step, letter in enumerate(_LETTERS)}


def hit(probability: float) -> float:
    """1 where the chosen item was given the larger probability, a half for a tie, else 0."""
    return 0.5 if probability == 0.5 else float(probability > 0.5)


def encode_window(probabilities: Sequence[float]) -> str:
    """Letters of the latest probabilities, oldest first. One that is near a half stays on its side of it."""
    return "".join(map(_encode, probabilities[-WINDOW:]))


def _encode(probability: float) -> str:
    step = round(probability * _STEPS)
    if step == _STEPS // 2 and probability != 0.5:
        step += 1 if probability > 0.5 else -1
    return _LETTERS[step]


def decode_window(window: str) -> list[float]:
    """The probabilities, oldest first."""
    return [_VALUES[letter] for letter in window if letter != CHANGE]


def parse_quality(fields: Mapping[str, str], prefix: str = "") -> dict[str, Prequential]:
    """Sums `<prefix><scorer>.n|.ok|.p` as means, for the scorers that have any, with their window `.w`."""
    means: dict[str, Prequential] = {}
    profile = fields.get(f"{prefix}profile.w", "")
    for scorer in SCORERS:
        count = int(float(fields.get(f"{prefix}{scorer}.n", 0)))
        if count:
            hits, mass = (float(fields[f"{prefix}{scorer}.{name}"]) for name in ("ok", "p"))
            means[scorer] = Prequential(
                **_means(hits, mass, count),
                recent=_parse_window(fields.get(f"{prefix}{scorer}.w", ""), profile if scorer == "engine" else ""),
            )
    return means


def _parse_window(window: str, profile_window: str) -> RecentQuality | None:
    """The quality of the latest predictions; None for none. `profile_window` gives the engine its baseline."""
    probabilities = decode_window(window)
    if not probabilities:
        return None
    by_profile = decode_window(profile_window)
    profile = {"profile": round(sum(map(hit, by_profile)) / len(by_profile), 4)} if by_profile else {}
    return RecentQuality(
        **_means(sum(map(hit, probabilities)), sum(probabilities), len(probabilities)),
        baselines={"coin": 0.5} | profile,
    )


def _means(hits: float, mass: float, count: int) -> dict[str, Any]:
    """Of so many predictions: how often they were right, with its 95 % interval, and the mean probability given."""
    low, high = interval(hits / count, count)
    means = {"accuracy": hits / count, "low": low, "high": high, "mean_probability": mass / count}
    return {"comparisons": count} | {name: round(value, 4) for name, value in means.items()}
