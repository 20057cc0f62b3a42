"""The report of a training chain as blocks; every word follows from the figures."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from evaluation.conditions import SETTINGS
from evaluation.reporting.criteria import Criterion
from evaluation.reporting.document import NONE, Block, Heading, Picture, Table, Text, percent, points
from evaluation.reporting.gather_runs import TrainingReportData, TrainingRun, compare_stages
from evaluation.results import EvaluationResult, Scores

Row = tuple[str, ...]


def render_report(data: TrainingReportData, criteria: Sequence[Criterion], plots: Sequence[str]) -> list[Block]:
    results = list(data.results.values())
    blocks: list[Block] = [Heading("Report", 1), *_verdicts(criteria)]
    if results:
        blocks += [Heading("Accuracy on held-out users"), *_accuracy(results)]
    if any(result.alignment for result in results):
        blocks += [Heading("Alignment with preference pairs"), *_alignment(results)]
    if data.runs:
        head = ("run", "stage", "rows", "minutes", "tokens/s", "course")
        blocks += [Heading("Training"), Table(head, tuple(map(_run, data.runs)), names=2)]
    return blocks + [Picture(name, name.rpartition(".")[0]) for name in plots]


def _verdicts(criteria: Sequence[Criterion]) -> list[Block]:
    met = sum(criterion.verdict == "met" for criterion in criteria)
    rows = []
    for item in criteria:
        figure = NONE if item.figure is None else points(item.figure) if item.is_difference else percent(item.figure)
        rows.append((item.name, item.wanted, figure, item.sentence))
    table = Table(("what", "wanted", "found", "verdict"), tuple(rows), names=4)
    return [Text(f"{met} of {len(criteria)} conditions are met."), table]


def _accuracy(results: Sequence[EvaluationResult]) -> list[Block]:
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
        ("longer text wins", *(_baseline(result) for result in measured)),
        ("checkpoint", *(_checkpoint(result) for result in measured)),
        ("judge", *(_judge(result) for result in measured)),
        ("users", *(str(len(result.users)) for result in measured)),
    ]
    comparisons = [
        Text(f"{later.stage} less {earlier.stage}, {setting}, over {gain.rows} users of both: {points(gain)} points.")
        for earlier, later in pairwise(measured)
        for setting in ("full", "streaming")
        if (gain := compare_stages(later, earlier, setting)) is not None
    ]
    note = "Share of users whose choice the judge finds likelier, with its 95 % bootstrap interval over users."
    head = ("setting", *(result.stage for result in measured))
    return [Text(note), Table(head, tuple(rows)), *comparisons]


def _line(label: str, results: Sequence[EvaluationResult], setting: str, figure: Callable[[Scores], str]) -> Row:
    cells = [figure(result.settings[setting]) if setting in result.settings else NONE for result in results]
    return (label, *cells)


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


def _alignment(results: Sequence[EvaluationResult]) -> list[Block]:
    head = ("stage", "alignment accuracy", "prefers chosen", "reference", "gain", "gain by token", "pairs")
    rows = [
        (
            result.stage,
            percent(scores.alignment),
            percent(scores.policy_prefers),
            percent(scores.reference_prefers),
            points(scores.gain),
            points(scores.gain_by_token),
            str(scores.alignment.rows),
        )
        for result in results
        if (scores := result.alignment) is not None
    ]
    note = (
        "Alignment accuracy: share of pairs for which the step from the reference raises the chosen reply more than "
        "the rejected one; the reference itself scores 50 %. Prefers chosen: finds the chosen reply likelier."
    )
    return [Text(note), Table(head, tuple(rows))]


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
