"""How well a reader who counts without a slip foresees choices of the synthetic world.

    python -m training.corpus.ceiling [--users N]

The upper bound of what alignx-mini can reach: the teacher reads a held-out history, and whoever has
more of what its summary says is chosen. By length of the history, for the whole history at once, in
two updates, and with 30 % of the choices turned round.
"""

import argparse
import random
from typing import Final

from training.corpus import teacher
from training.corpus.personas import persona
from training.corpus.simulate_choices import Choice, choice, history
from training.corpus.teacher import PAST, Findings, infer

LENGTHS: Final = (6, 12, 24, 48)
SETTINGS: Final = ("full", "streaming", "flipped")
FLIPPED: Final = 0.3


def foreseen(findings: Findings, target: Choice) -> float:
    """1 where the findings speak for the choice, 0 where against it, a half where for neither."""
    worth = {name: PAST[group] for group in teacher.GROUPS for name in getattr(findings, group)}
    lead = sum(worth.get(for_, 0) - worth.get(against, 0) for for_, against in target.evidence)
    return 0.5 if lead == 0 else float(lead > 0)


def accuracies(rng: random.Random, length: int, users: int) -> dict[str, float]:
    """Share of `users` held-out users whose choice is foreseen, by setting."""
    found = dict.fromkeys(SETTINGS, 0.0)
    for _ in range(users):
        person = persona(rng, "heldout")
        target = choice(rng, person, "heldout")
        events = history(rng, person, "heldout", length)
        turned = set(rng.sample(range(length), round(FLIPPED * length)))
        disturbed = [each.flipped() if place in turned else each for place, each in enumerate(events)]
        past = infer(events[: length // 2]).findings
        found["full"] += foreseen(infer(events).findings, target) / users
        found["streaming"] += foreseen(infer(events[length // 2 :], past).findings, target) / users
        found["flipped"] += foreseen(infer(disturbed).findings, target) / users
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--users", type=int, default=4_000)
    users = parser.parse_args().users
    print(f"| events | {' | '.join(SETTINGS)} |\n|---|{'---|' * len(SETTINGS)}")
    for length in LENGTHS:
        found = accuracies(random.Random(length), length, users)
        print(f"| {length} | {' | '.join(f'{100 * found[name]:.1f} %' for name in SETTINGS)} |")


if __name__ == "__main__":
    main()
