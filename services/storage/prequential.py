"""The user's latest prequential predictions, kept one letter each in the user's state.

A letter stands for the probability that was given to what the user chose, in 50 steps; its middle one is a tie.
`CHANGE` marks where the user's preferences were found changed.
"""

from collections.abc import Sequence
from string import ascii_letters
from typing import Final

from alignx.schemas.summaries import RecentQuality
from services.profile.scoring import interval

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


def recent_quality(window: str, profile_window: str = "") -> RecentQuality | None:
    """The quality of the latest predictions; None for none. `profile_window` gives the engine its baseline."""
    probabilities = decode_window(window)
    if not probabilities:
        return None
    accuracy = _accuracy(probabilities)
    low, high = interval(accuracy, len(probabilities))
    by_profile = decode_window(profile_window)
    return RecentQuality(
        comparisons=len(probabilities),
        accuracy=round(accuracy, 4),
        low=round(low, 4),
        high=round(high, 4),
        mean_probability=round(sum(probabilities) / len(probabilities), 4),
        baselines={"coin": 0.5} | ({"profile": round(_accuracy(by_profile), 4)} if by_profile else {}),
    )


def _accuracy(probabilities: Sequence[float]) -> float:
    return sum(map(hit, probabilities)) / len(probabilities)
