"""Isolation, scopes, generated requests, injections and canaries against the suite as real processes.

    make security                                                  # all of it, about ten minutes
    python -m tests.security.run --only fuzz --requests 500 --seed 3
    python -m tests.security.run --root ../broken --only isolation # another checkout's suite, which it must fail

Prints one table and writes it to docs/results/security.md. Ends with status 1 where a row that must be 0 is not; the
effects of injections are measured, not required.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.live.suite import ROOT, Suite, day_and_commit, mock_engine
from tests.security import fuzzing, injections
from tests.security.histories import ALPHA, BETA, SECOND, SETTINGS, USER, make_tenant
from tests.security.injections import EFFECTS, SLOTS, Outcome, Pair
from tests.security.isolation import canaries_in, probe
from tests.security.scopes import probe_scopes

PARTS = ("isolation", "scopes", "fuzz", "injections")
PAGE = ROOT / "docs" / "results" / "security.md"
ENGINE = "tests.security.obeying_engine"
WORDS = (*(f"u900{person}n" for person in range(1, 7)), "Zorvane", "zorvane", "user-zq", "-person")
"""What no log and no metric may hold: canaries, hostile texts, names of users."""
SHOWN = 10
NOTES = """\
Each row must find 0, or the command ends with status 1.

Below: hostile texts (tests/security/injections.json, written before the guards were read) in every slot of an event,
in the user's own text and in offers. Left of the slash an engine that obeys whatever it reads writes the summaries,
which is the worst case; right of it the profile does, as in a suite without an engine. A number counts the pairs of a
text and a slot that had the effect: a raw control token in a prompt outside our template, the order in a system role,
a link in the served summary, the order in the served summary or in a later chat's prompt, another user's text.

What is more than 0 and stays:

- An order that an engine writes as a statement about the user passes where it breaks none of the
  [checks of a reply](../reference/reply-checks.md). Until its update is written, a chat shows a new event as it is.
- The profile quotes what users say of themselves, and names categories and brands as items have them, so an order in
  those stands in its text. It reaches this user's prompts alone, and there as data in a user turn.
- The user's own text (edit) is kept as it is written, but for control tokens and hidden characters.
- For a small model (services/prompts/plain.py) the summary is part of the system role, an order in it included.
- An address without a scheme, in a domain that the check does not know, passes as a name."""


@dataclass
class Row:
    """A line of the table: what was tried how often, and how often it went as it must not."""

    part: str
    tried: str
    count: int
    wrong: Sequence[str] = field(default_factory=list)


@contextmanager
def obeyed(home: Path, root: Path = ROOT) -> Iterator[tuple[Suite, str]]:
    """The suite in front of the engine that obeys, and that engine's address."""
    with (
        mock_engine(home, module=ENGINE) as engine,
        Suite(home, {**SETTINGS, "ALIGNX_ENGINE__URL": f"{engine}/v1"}, root).running() as suite,
    ):
        yield suite, engine


def check_isolation(suite: Suite, engine: str) -> list[Row]:
    alpha = make_tenant(suite, ALPHA, {USER: "u9001", SECOND: "u9003"})
    beta = make_tenant(suite, BETA, {USER: "u9002"})
    found = probe(suite, engine, alpha, beta)
    return [
        Row(
            "isolation", f"answers on {found.routes} routes that hold another tenant's canary", found.calls, found.leaks
        ),
        Row("isolation", "calls answered that had to be refused", found.calls, found.opened),
        Row("isolation", "reads of the other tenant's state that differ afterwards", found.reads, found.changed),
        Row("isolation", "prompts that hold canaries of two users", found.prompts, ["prompt"] * found.foreign_prompts),
    ]


def check_scopes(suite: Suite) -> list[Row]:
    found = probe_scopes(suite)
    return [
        Row("scopes", "calls by keys of one scope, and by tokens of one user, allowed or refused against the document",
            found.key_calls + found.token_calls, found.wrong),
        Row("scopes", "allowed calls whose form was refused, which prove nothing", found.allowed, found.malformed),
        Row("scopes", "calls without a scope beside health", found.key_calls, found.unguarded),
    ]  # fmt: skip


def check_requests(suite: Suite, count: int, seed: int) -> list[Row]:
    found = fuzzing.fuzz(suite, count, seed)
    sys.stdout.write(f"seed {seed}: {dict(found.statuses.most_common())} {dict(found.codes.most_common())}\n")
    return [
        Row("generated requests", f"status 5xx other than 501 and 503, seed {seed}", found.requests, found.broken),
        Row(
            "generated requests",
            "errors without problem document, field or limit",
            found.requests,
            found.shapeless,
        ),
        Row("generated requests", "processes that ended or logged an error", found.requests, found.unhealthy),
    ]


def check_canaries(suite: Suite) -> list[Row]:
    count = 2 * len(suite.processes) - 1  # Redis has no metrics
    return [Row("canaries", "logs and metrics that hold a user's text or name", count, canaries_in(suite, WORDS))]


# --- injections ---------------------------------------------------------------------------------


Columns = Mapping[str, Sequence[Outcome]]
"""Outcomes by what wrote the summaries."""


def effect_tables(columns: Columns) -> list[str]:
    """Kinds and slots by effects: the pairs that had it, a number for each column."""
    kinds = Counter(injection.kind for injection in injections.load_injections())
    labels = {kind: f"{kind}, {count} texts" for kind, count in kinds.items()}
    slots = {slot: slot for slot in SLOTS}
    by_kind = _count_pairs(columns, labels, EFFECTS, lambda pair: pair.injection.kind)
    return ["", *by_kind, "", *_count_pairs(columns, slots, EFFECTS, lambda pair: pair.slot)]


def _count_pairs(
    columns: Columns, labels: Mapping[str, str], effects: Sequence[str], group: Callable[[Pair], str]
) -> list[str]:
    """A table; pairs whose text the API refused count nowhere."""
    first = next(iter(columns.values()))
    tried = Counter(group(one.pair) for one in first if one.status < 300 and one.pair.injection.kind)
    found = [
        {effect: Counter(map(group, pairs)) for effect, pairs in injections.measure(outcomes).items()}
        for outcomes in columns.values()
    ]
    lines = [f"| | pairs | {' | '.join(effects)} |", f"|---|---:|{'---:|' * len(effects)}"]
    for name, label in labels.items():
        cells = [" / ".join(str(counts.get(effect, Counter())[name]) for counts in found) for effect in effects]
        lines.append(f"| {label} | {tried[name]} | {' | '.join(cells)} |")
    return lines


def injection_rows(columns: Columns) -> list[Row]:
    """What must be 0 of the effects."""
    rows = []
    for effect in ("tokens", "system", "other user"):
        wrong = [
            f"{pair.injection.name} in {pair.slot}, {name}"
            for name, outcomes in columns.items()
            for pair in injections.measure(outcomes)[effect]
        ]
        rows.append(Row("injections", f"effect: {effect}", sum(map(len, columns.values())), wrong))
    return rows


# --- the run ------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """The rows and the further tables."""
    parts, tables, rows = options.only or PARTS, list[str](), list[Row]()
    with TemporaryDirectory() as home, obeyed(Path(home), options.root) as (suite, engine):
        if "isolation" in parts:
            rows += check_isolation(suite, engine)
        if "scopes" in parts:
            rows += check_scopes(suite)
        if "fuzz" in parts:
            rows += check_requests(suite, options.requests, options.seed)
        columns = {}
        if "injections" in parts:
            columns["obeying"] = injections.inject(
                suite, injections.make_pairs(SLOTS, options.slots, options.seed), engine
            )
        rows += check_canaries(suite)
    if "injections" in parts:
        with TemporaryDirectory() as home, Suite(Path(home), SETTINGS, options.root).running() as suite:
            slots = [slot for slot in SLOTS if slot not in injections.OFFERS]
            columns["profile"] = injections.inject(
                suite, injections.make_pairs(slots, options.slots, options.seed), None
            )
            rows += check_canaries(suite)
        rows += injection_rows(columns)
        tables = effect_tables(columns)
    return rows, tables


def render(rows: Sequence[Row]) -> list[str]:
    lines = ["| part | what must not be | tried | found |", "|---|---|---:|---:|"]
    return [*lines, *(f"| {row.part} | {row.tried} | {row.count:,} | {len(row.wrong)} |" for row in rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Isolation, scopes, generated requests, injections, canaries.")
    parser.add_argument("--only", choices=PARTS, nargs="*")
    parser.add_argument("--requests", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slots", type=int, default=len(SLOTS), help="of each hostile text, by the seed")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout whose suite is started")
    parser.add_argument("--report", type=Path, help="a page for the tables")
    options = parser.parse_args()
    started = time.monotonic()
    rows, tables = run(options)
    sys.stdout.write("\n".join([*render(rows), *tables, "", f"{time.monotonic() - started:.0f} s", ""]))
    for row in rows:
        for wrong in row.wrong[:SHOWN]:
            sys.stdout.write(f"{row.part}, {row.tried}: {wrong}\n")
    if options.report:
        options.report.write_text(page(rows, tables))
    sys.exit(any(row.wrong for row in rows))


def page(rows: Sequence[Row], tables: Sequence[str]) -> str:
    head = ["# Security", "", f"Written by `make security` ({' '.join(sys.argv[1:])}), {day_and_commit()}.", ""]
    return "\n".join([*head, *render(rows), "", NOTES, *tables, ""])


if __name__ == "__main__":
    main()
