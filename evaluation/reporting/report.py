"""Reports results of evaluation: a table with intervals and baselines, a plot, published figures.

`report` of a run names the folder for accuracy.md and accuracy.png. Runs on the same rows stand together, such as the
stages of a training chain; a benchmark is named after its file of rows. Every word follows from the figures; what a
conversion left out is listed where its note lies beside the results.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from evaluation.reporting.collect import CollectedResults, Line
from evaluation.reporting.document import NONE, Table, percent, points
from evaluation.reporting.plots import plot_accuracy
from evaluation.reporting.published import PUBLISHED, Published
from evaluation.results import Scores
from evaluation.scoring.intervals import difference
from training.exceptions import ConfigError

TITLE = "Results on benchmarks"
PLOT = "accuracy.png"
UNREAD = ("random", "longer wins", "popularity")
"""Baselines that choose without reading the history."""
CONTROLS = (
    "none", "other", "flipped", "drifted", "mixed", "truth", "profile-flipped", "profile-text",
)  # fmt: skip
"""Controls and robustness: they stand in the table, not beside published figures."""


def render_overview(results: CollectedResults) -> Table:
    """Each score with its rows, interval and baselines."""
    head = ("benchmark", "run", "setting", "rows", "accuracy, 95 % interval", "kept aside", "AUC", "ECE")
    return Table(
        (*head, *UNREAD),
        tuple(
            (
                line.benchmark,
                line.run,
                line.setting,
                f"{line.accuracy.rows:,}",
                percent(line.accuracy),
                _held_out(line),
                _auc(line),
                _ece(line),
                *(_baseline(line, name) for name in UNREAD),
            )
            for line in results.lines
        ),
        names=3,
    )


def _held_out(line: Line) -> str:
    value = line.scores.aside if isinstance(line.scores, Scores) else None
    return f"{percent(value)}, {value.rows:,} rows" if value else NONE


def _auc(line: Line) -> str:
    value = line.scores.auc if isinstance(line.scores, Scores) else None
    return f"{100 * value.mean:.1f} %" if value else NONE


def _ece(line: Line) -> str:
    value = line.scores.calibration if isinstance(line.scores, Scores) else None
    return f"{value.error:.3f}" if value else NONE


def _baseline(line: Line, name: str) -> str:
    value = line.result.baselines.get(name)
    if value is None:
        return NONE
    rows = f", {value.rows:,} rows" if value.rows != line.accuracy.rows else ""
    return f"{100 * value.mean:.1f} %{rows}"


def render_report(results: CollectedResults) -> str:
    return "\n\n".join((f"# {TITLE}", *_accuracy(results), *_alignments(results))) + "\n"


def _accuracy(results: CollectedResults) -> Iterator[str]:
    if not results.results:
        return
    yield (
        "Share of rows whose choice got the highest score, ties shared, with its 95 % bootstrap interval; for "
        "questions that are answered, a win counts 1, a tie a half. Kept aside: over the users alone on whom no "
        "feature of the fast profile was chosen; where nothing stands there, none were kept aside, and of P-Soups "
        "all rows were looked at. AUC is pooled over all options of all rows; "
        "ECE is the expected calibration error. Random, the longest text and, where the rows tell it, "
        "popularity choose without reading the history; against negatives drawn by popularity the last may fall "
        "below a half, against negatives that are exactly as popular it tells nothing. Other settings are those of "
        "evaluation/conditions.py: `none` is the control without any summary, `flipped`, `drifted` and "
        "`mixed` disturb the history, `other` gives another user's summary. Setting `profile` is the fast "
        "profile without any model and without the items' popularity; `-text` a profile that has read the "
        "summary's sentences and nothing else, "
        f"`-flipped` one that was told {_flipped(results)} of all choices the wrong way round, "
        "`-popularity` items that carry how "
        "often others took them, `-semantic` with sentence embeddings, `-all` with both; `wording` a judge that "
        "reads the profile's text alone. "
        "Folded in parts and stored between, the profile is the same by construction."
    )
    yield render_overview(results).markdown()
    yield from _unproven(results)
    yield f"![Accuracy by benchmark with 95 % intervals, and baselines]({PLOT})"
    yield from _published(results)
    yield from _differences(results)
    yield from _cost(results)
    yield from _rows(results)


def _flipped(results: CollectedResults) -> str:
    """The share of reversed choices, from the configurations of the runs."""
    protocols = [result.config.get("protocol") for _, result in results.results]
    shares = sorted({item["flip"] for item in protocols if isinstance(item, dict) and "flip" in item})
    return " or ".join(f"{100 * share:.0f} %" for share in shares) or "a share"


def _unproven(results: CollectedResults) -> list[str]:
    """Scores that are not clearly above a baseline without reading."""
    items = []
    for line in results.lines:
        if line.setting in CONTROLS or not isinstance(line.scores, Scores):
            continue
        margins = line.scores.margins
        if reached := [name for name in UNREAD if name in margins and margins[name].low <= 0]:
            gaps = ", ".join(f"{name} {points(margins[name])}" for name in reached)
            items.append(f"{line.benchmark} ({line.label}; less {gaps})")
    sentence = "Not clearly above a baseline, paired by row, in points"
    return [f"{sentence}: {'; '.join(items)}."] if items else []


def _published(results: CollectedResults) -> list[str]:
    if not {line.benchmark for line in results.lines} & {name for item in PUBLISHED for name in item.names}:
        return []
    rows = tuple(
        (item.title, f"{item.streaming:.2f} %", f"{item.full:.2f} %", _own_scores(results, item)) for item in PUBLISHED
    )
    note = (
        "AlignXplore+ with 8 B parameters as published, judged by Qwen3-8B. Judge, rows and negatives here are "
        "others: the figures show the order of size and are no comparison of methods."
    )
    head = ("benchmark", "published, streaming", "published, full", "here")
    return ["## Beside published figures", note, Table(head, rows).markdown()]


def _own_scores(results: CollectedResults, published: Published) -> str:
    scores = [
        f"{line.label} {percent(line.accuracy)}, {line.accuracy.rows:,} rows"
        for line in results.lines
        if line.benchmark in published.names and line.setting not in CONTROLS
    ]
    return "; ".join(scores) or "not measured"


def _differences(results: CollectedResults) -> list[str]:
    """Of settings of one run; of a setting from run to run, where rows are drawn one by one."""
    rows = [
        (benchmark, result.stage, name, points(value), f"{value.rows:,}")
        for benchmark, result in results.results
        for name, value in result.differences.items()
    ]
    for (benchmark, earlier), (following, later) in pairwise(results.results):
        if benchmark != following or earlier.users != later.users or later.clusters:
            continue
        for name in (name for name in later.settings if name in earlier.settings):
            gain = difference(later.settings[name].right, earlier.settings[name].right)
            rows.append((benchmark, later.stage, f"{name} - {earlier.stage}: {name}", points(gain), f"{gain.rows:,}"))
    if not rows:
        return []
    head = ("benchmark", "run", "accuracy of", "points, 95 % interval", "rows")
    return ["## Differences, paired by row", Table(head, tuple(rows), names=3).markdown()]


def _alignments(results: CollectedResults) -> list[str]:
    head = ("run", "alignment accuracy", "prefers chosen", "reference", "gain", "gain by token", "pairs")
    rows = [
        (
            result.stage,
            percent(scores.alignment),
            percent(scores.policy_prefers),
            percent(scores.reference_prefers),
            points(scores.gain),
            points(scores.gain_by_token),
            f"{scores.alignment.rows:,}",
        )
        for result in results.alignments
        if (scores := result.alignment)
    ]
    note = (
        "Alignment accuracy: share of pairs for which the step from the reference raises the chosen reply more than "
        "the rejected one; the reference itself scores 50 %. Prefers chosen: finds the chosen reply likelier."
    )
    return ["## Alignment with preference pairs", note, Table(head, tuple(rows)).markdown()] if rows else []


def _cost(results: CollectedResults) -> list[str]:
    rows = tuple(
        (line.benchmark, line.run, line.setting, _tokens(line), f"{line.scores.calls:,}", f"{line.scores.seconds:.1f}")
        for line in results.lines
    )
    head = ("benchmark", "run", "setting", "tokens of a summary", "engine calls", "seconds")
    note = (
        "Engine calls are all that a setting needs, also where a kept answer of another setting or an earlier run "
        "served; seconds are of the run itself, in which what was kept took none."
    )
    judges = {
        f"Run {result.stage}: summaries by {result.model.name}, judged by {result.judge.name}."
        for _, result in results.results
        if result.model and result.judge
    }
    return ["## What it took", note, Table(head, rows, names=3).markdown(), *sorted(judges)]


def _tokens(line: Line) -> str:
    return f"{line.scores.writing.summary_tokens:.0f}" if line.scores.writing else NONE


def _rows(results: CollectedResults) -> Iterator[str]:
    """Where the rows came from and what is missing."""
    yield "## The rows"
    if results.conversions:
        yield (
            "Rows are of the files at hand, which may be parts of the published ones. Personas, profiles and system "
            "messages never enter a row; pairs of P-Soups that quote the true persona are left out."
        )
        rows = tuple(
            (name, conversion.about, f"{conversion.rows:,}", _counts(conversion.read), _counts(conversion.left_out))
            for name, conversion in results.conversions.items()
        )
        yield Table(("benchmark", "what is foreseen", "rows", "read", "left out"), rows, names=5).markdown()
        if limited := [name for name, conversion in results.conversions.items() if conversion.limit]:
            yield f"Only the first rows, as limit asked: {', '.join(limited)}."
    yield from (f"{remark}: {', '.join(names)}." for remark, names in _remarks(results).items() if names)


def _remarks(results: CollectedResults) -> dict[str, list[str]]:
    """What to know about single benchmarks and runs, by sentence."""
    by_benchmark = dict(results.results)
    most = {
        name: max(len(result.users) for benchmark, result in results.results if benchmark == name)
        for name in by_benchmark
    }
    return {
        "Intervals draw what rows share, each as a whole, and rows elsewhere": [
            f"{name} {result.clusters:,} {result.drawn} of {len(result.users):,} rows"
            for name, result in by_benchmark.items()
            if result.clusters
        ],
        "Measured on the first rows alone": [
            f"{name} ({result.stage}) {len(result.users):,}"
            for name, result in results.results
            if len(result.users) < most[name]
        ],
        "Sampled replies that selected no option, each counted as wrong": [
            f"{line.benchmark} ({line.label}) {line.scores.replies.unparsed:,} of {line.accuracy.rows:,}"
            for line in results.lines
            if isinstance(line.scores, Scores) and line.scores.replies and line.scores.replies.unparsed
        ],
        "Malformed rows left out by the runner": [
            f"{name} {result.left_out:,}" for name, result in by_benchmark.items() if result.left_out
        ],
        "Histories that lost their oldest part in a prompt": [
            f"{name} ({result.stage}) {result.shortened:,}" for name, result in results.results if result.shortened
        ],
        "Nothing is known of the conversion of": [name for name in by_benchmark if name not in results.conversions],
    }


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} {count:,}" for what, count in counts.items()) or "nothing"


def write(results: CollectedResults, out: Path) -> list[Path]:
    """The Markdown and the plot. Raises ConfigError where they cannot be written."""
    paths = [out / "accuracy.md", out / PLOT]
    try:
        out.mkdir(parents=True, exist_ok=True)
        paths[0].write_text(render_report(results), encoding="utf-8")
        if results.results:
            plot_accuracy(results, paths[1])
        else:
            paths.pop()
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error}") from error
    return paths
