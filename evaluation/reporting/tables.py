"""The report in words and tables: Markdown, every word of which follows from the figures."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise

from evaluation.conditions import SETTINGS
from evaluation.reporting.criteria import Criterion
from evaluation.reporting.gather_runs import Gathered, TrainingRun, paired
from evaluation.results import Estimate, EvaluationResult, Scores

NONE = "–"
Row = Sequence[str]


def percent(value: Estimate) -> str:
    return f"{100 * value.mean:.1f} % ({100 * value.low:.1f} to {100 * value.high:.1f})"


def points(value: Estimate) -> str:
    return f"{100 * value.mean:+.1f} ({100 * value.low:+.1f} to {100 * value.high:+.1f})"


def markdown(gathered: Gathered, criteria: Sequence[Criterion], plots: Sequence[str]) -> str:
    results = list(gathered.results.values())
    parts = ["# Report", *_verdicts(criteria)]
    if results:
        parts += ["## Accuracy on held-out users", *_accuracy(results)]
    if any(result.alignment for result in results):
        parts += ["## Alignment with preference pairs", *_alignment(results)]
    if gathered.runs:
        parts += [
            "## Training",
            _table(("run", "stage", "rows", "minutes", "tokens/s", "course"), map(_run, gathered.runs)),
        ]
    parts += [f"![{name.rpartition('.')[0]}]({name})" for name in plots]
    return "\n\n".join(parts) + "\n"


def _table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _verdicts(criteria: Sequence[Criterion]) -> list[str]:
    met = sum(criterion.verdict == "met" for criterion in criteria)
    rows = []
    for each in criteria:
        figure = NONE if each.figure is None else points(each.figure) if each.difference else percent(each.figure)
        rows.append((each.name, each.wanted, figure, each.sentence))
    table = _table(("what", "wanted", "found", "verdict"), rows)
    return [f"{met} of {len(criteria)} conditions are met.", table]


def _accuracy(results: Sequence[EvaluationResult]) -> list[str]:
    measured = [result for result in results if result.settings]
    names = [name for name in SETTINGS if any(name in result.settings for result in measured)]
    rows: list[Row] = [_line(name, measured, name, lambda scores: percent(scores.accuracy)) for name in names]
    kinds = sorted({kind for result in measured for scores in result.settings.values() for kind in scores.by_kind})
    for kind in kinds:
        rows.append(_line(f"full, {kind} alone", measured, "full", partial(_kind, kind=kind)))
    rows += [
        _line("full, probability", measured, "full", lambda scores: percent(scores.probability)),
        _line("full, position bias", measured, "full", _bias),
        _line("full, well-formed replies", measured, "full", _well_formed),
        _line("full, tokens of a summary", measured, "full", _tokens),
        ["longer text wins", *(_baseline(result) for result in measured)],
        ["checkpoint", *(_checkpoint(result) for result in measured)],
        ["judge", *(_judge(result) for result in measured)],
        ["users", *(str(len(result.users)) for result in measured)],
    ]
    compared = [
        f"{later.stage} less {earlier.stage}, {setting}, over {gain.rows} users that both saw: {points(gain)} points."
        for earlier, later in pairwise(measured)
        for setting in ("full", "streaming")
        if (gain := paired(later, earlier, setting)) is not None
    ]
    note = "Share of users whose choice the judge found likelier, with its 95 % bootstrap interval over users."
    return [note, _table(["setting", *(result.stage for result in measured)], rows), *compared]


def _line(label: str, results: Sequence[EvaluationResult], setting: str, figure: Callable[[Scores], str]) -> Row:
    cells = [figure(result.settings[setting]) if setting in result.settings else NONE for result in results]
    return [label, *cells]


def _kind(scores: Scores, kind: str) -> str:
    return percent(scores.by_kind[kind]) if kind in scores.by_kind else NONE


def _bias(scores: Scores) -> str:
    return NONE if scores.position_bias is None else f"{scores.position_bias:.3f}"


def _well_formed(scores: Scores) -> str:
    share = scores.writing.well_formed if scores.writing else None
    return NONE if share is None else f"{100 * share:.1f} %"


def _tokens(scores: Scores) -> str:
    return NONE if scores.writing is None else f"{scores.writing.summary_tokens:.0f}"


def _baseline(result: EvaluationResult) -> str:
    longer = result.baselines.get("longer wins")
    return NONE if longer is None else percent(longer)


def _checkpoint(result: EvaluationResult) -> str:
    if result.model is None:
        return "none"
    return f"{result.model.name} {(result.model.sha256 or '')[:8]}".rstrip()


def _judge(result: EvaluationResult) -> str:
    if result.judge is None:
        return "none"
    return "itself" if result.judge == result.model else result.judge.name


def _alignment(results: Sequence[EvaluationResult]) -> list[str]:
    head = ("stage", "alignment accuracy", "prefers chosen", "reference", "gain", "gain by token", "pairs")
    rows = [
        (
            result.stage,
            percent(found.alignment),
            percent(found.policy_prefers),
            percent(found.reference_prefers),
            points(found.gain),
            points(found.gain_by_token),
            str(found.alignment.rows),
        )
        for result in results
        if (found := result.alignment) is not None
    ]
    note = (
        "Alignment accuracy: share of pairs for which the step from the reference raises the chosen reply more than "
        "the rejected one; the reference itself scores 50 %. Prefers chosen: finds the chosen reply likelier."
    )
    return [note, _table(head, rows)]


def _run(run: TrainingRun) -> Row:
    course = "; ".join(f"{name} {curve[0][1]:.3g} → {curve[-1][1]:.3g}" for name, curve in run.curves.items())
    return (
        run.name,
        run.stage,
        f"{run.rows:,}",
        f"{run.seconds / 60:.1f}",
        f"{run.tokens_per_second:,.0f}",
        course or NONE,
    )
