"""The accuracy of an exact reader on choices of the synthetic world.

    python -m training.corpus.ceiling [--users N]

The upper bound for alignx-mini: the teacher reads a held-out history, and the item with more of what its
summary says is chosen. By length of the history, for the whole history at once, in two updates, and with
30 % of the choices flipped.
"""

import random
from typing import Final

import typer

from training.corpus import teacher
from training.corpus.personas import persona
from training.corpus.simulate_choices import Choice, choice, history
from training.corpus.teacher import PAST, Findings, infer

LENGTHS: Final = (6, 12, 24, 48)
SETTINGS: Final = ("full", "streaming", "flipped")
FLIPPED: Final = 0.3


def score(findings: Findings, target: Choice) -> float:
    """1 where the findings favour the choice, 0 where its opposite, a half where neither."""
    weights = {name: PAST[group] for group in teacher.GROUPS for name in getattr(findings, group)}
    lead = sum(weights.get(for_, 0) - weights.get(against, 0) for for_, against in target.evidence)
    return 0.5 if lead == 0 else float(lead > 0)


def accuracies(rng: random.Random, length: int, users: int) -> dict[str, float]:
    """Share of `users` held-out users whose choice is predicted, by setting."""
    shares = dict.fromkeys(SETTINGS, 0.0)
    for _ in range(users):
        person = persona(rng, "heldout")
        target = choice(rng, person, "heldout")
        events = history(rng, person, "heldout", length)
        flipped = set(rng.sample(range(length), round(FLIPPED * length)))
        noisy = [event.flipped() if index in flipped else event for index, event in enumerate(events)]
        past = infer(events[: length // 2]).findings
        shares["full"] += score(infer(events).findings, target) / users
        shares["streaming"] += score(infer(events[length // 2 :], past).findings, target) / users
        shares["flipped"] += score(infer(noisy).findings, target) / users
    return shares


def main(users: int = 4_000) -> None:
    """Prints the accuracy by length of the history and setting."""
    print(f"| events | {' | '.join(SETTINGS)} |\n|---|{'---|' * len(SETTINGS)}")
    for length in LENGTHS:
        shares = accuracies(random.Random(length), length, users)
        print(f"| {length} | {' | '.join(f'{100 * shares[name]:.1f} %' for name in SETTINGS)} |")


if __name__ == "__main__":
    typer.run(main)
