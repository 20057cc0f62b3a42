"""Does what a person says order two items? One trial a row of the labelled clauses, through the profile as served.

    python -m tests.clauses.trials tests/clauses/unseen.jsonl

The row's text is one event of its source; the first item of its trial suits the speaker better. A right order counts
1, a tie a half. Rows that claim nothing (questions, other people's tastes, …) are right where they move nothing:
a probability within NOTHING of a half. So are sarcastic ones and facts, and where they move towards what is meant.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from alignx.schemas.interactions import INTERACTION, Interaction
from alignx.schemas.items import ItemFields
from services.profile.fold import fold
from services.profile.scoring import interval, probabilities
from services.profile.statistics import EMPTY
from tests.clauses.measure import load

TIE = 1e-9
NOTHING = 0.05


class Trial(NamedTuple):
    kind: Literal["en", "other", "nothing", "fact"]
    detail: str
    """The language, or for rows that claim nothing their kind."""
    right: float


def as_event(row: Mapping[str, Any]) -> Interaction:
    """The row's text as a front end would send it."""
    text = row["text"]
    match row["source"]:
        case "dialogue":
            event = {"type": "dialogue", "messages": [{"role": "user", "content": text}]}
        case "review":
            value = 1 if any(claim["polarity"] < 0 for claim in row["claims"]) else 5
            event = {"type": "rating", "item": "This one", "value": value, "review": text}
        case source:
            event = {"type": source, "text": text}
    return INTERACTION.validate_python(event)


def run_trials(rows: Iterable[Mapping[str, Any]]) -> list[Trial]:
    trials = []
    for row in rows:
        if not row["trial"]:
            continue
        profile, _ = fold(EMPTY, as_event(row))
        items = [ItemFields(**row["trial"][name]) for name in ("fitting", "unfitting")]
        fits, other = probabilities(profile, "", items)
        if row["claims"] and row["kind"] != "sarcasm":
            right = 0.5 if abs(fits - other) < TIE else float(fits > other)
            trials.append(Trial("en" if row["lang"] == "en" else "other", row["lang"], right))
        else:
            silent, is_fact = abs(fits - 0.5) <= NOTHING, row["kind"] == "fact"
            right = silent or ((bool(row["claims"]) or is_fact) and fits > other)
            trials.append(Trial("fact" if is_fact else "nothing", row["kind"], float(right)))
    return trials


def describe(trials: Iterable[Trial]) -> str:
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for trial in trials:
        groups[trial.kind, "all"].append(trial.right)
        groups[trial.kind, trial.detail].append(trial.right)
    lines = []
    for (kind, detail), right in sorted(groups.items()):
        share = sum(right) / len(right)
        low, high = interval(share, len(right))
        lines.append(f"{kind:8} {detail:12} {share:.3f} ({low:.3f} to {high:.3f}), n {len(right)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(describe(run_trials(load(Path(sys.argv[1])))) + "\n")
