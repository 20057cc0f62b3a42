"""The recipe for one user: at most two rows, each written by the teacher and checked by the judge.

The history is cut in three. A first row shows part 1 and is tested on choices of part 2; the streaming
row shows that row's summary and part 2, and is tested on choices of part 3. For each: the well
predictable choices become targets; the teacher drafts several summaries, guided by them; those from
which the judge picks enough targets right are merged into one that knows what they know together; the
result must get 80 % of the targets right. What becomes a row is the student's own prompt, in which no
target stands, and the teacher's reasoning and summary.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from alignx.schemas.interactions import ComparisonInteraction
from services.engine.judge import LetterEngine
from services.errors import EngineError, EngineRejected
from services.prompts.build import fit_interactions, plain_history
from services.prompts.profiles import PromptProfile, load_profile
from services.prompts.replies.parse_summary import SummaryReply, parse_summary
from services.prompts.replies.summary_checks import Evidence
from training.rl.rewards import judge_choice
from training.synthesis.engines import Answer, CachedEngine
from training.synthesis.leaks import leaks
from training.synthesis.options import Synthesis
from training.synthesis.prompts import guided_prompt, merge_prompt
from training.synthesis.signals import SignalScorer, gather_all
from training.synthesis.source_users import User

Kind = Literal["first", "streaming"]
Choices = Sequence[ComparisonInteraction]

STAGES = (
    "attempted",
    "without_targets",
    "targets",
    "candidates",
    "unreadable",
    "leaked",
    "repeated",
    "failed_first_check",
    "passed_first_check",
    "without_draft",
    "merges",
    "failed_second_check",
    "engine_refused",
    "rows",
)
"""The counters of each kind of row, in the order of the recipe. A candidate is unreadable (no reasoning, no
summary, truncated), leaked, a repetition of another, or judged."""


@dataclass(frozen=True)
class Outcome:
    """Rows of one user and counters such as `first.targets` or `users.short`."""

    rows: tuple[dict[str, Any], ...] = ()
    counts: Counter[str] = field(default_factory=Counter)


@dataclass
class _Task:
    """One row to make; its targets are selected during the recipe."""

    kind: Kind
    past: str | None
    shown: Choices
    counts: Counter[str]
    targets: Choices = ()

    def note(self, stage: str, count: int = 1) -> None:
        assert stage in STAGES, stage
        self.counts[f"{self.kind}.{stage}"] += count


def _cuts(size: int) -> tuple[tuple[Kind, int, int], ...]:
    """For each row: where its events end, and where the choices of its test end."""
    return (("first", size // 3, 2 * size // 3), ("streaming", 2 * size // 3, size))


def _row(task: _Task, reply: SummaryReply, prompts: PromptProfile, *, past_tokens: int) -> dict[str, Any]:
    prompt = prompts.update_prompt(task.past, task.shown, past_tokens=past_tokens)
    content = f"<think>\n{reply.reasoning}\n</think>\n\n{reply.text}"
    return {"prompt": prompt.messages, "completion": [{"role": "assistant", "content": content}]}


class Recipe:
    def __init__(self, config: Synthesis, teacher: CachedEngine, judge: LetterEngine, scorer: SignalScorer) -> None:
        self._config = config
        self._teacher = teacher
        self._judge = judge
        self._scorer = scorer
        self._prompts = load_profile(config.prompts)
        self._judge_prompts = load_profile(config.selection_prompts)

    async def rows(self, user: User) -> Outcome:
        """Raises EngineFailed when an engine ends the run."""
        settings = self._config.history
        history = user.history[-settings.most :]
        if len(history) < settings.least:
            return Outcome(counts=Counter({"users.short": 1}))
        counts, rows = Counter[str](), []
        start, past = 0, None
        for kind, end, test_end in _cuts(len(history)):
            shown = cast(
                "Choices", fit_interactions(history[start:end], settings.tokens, self._prompts.interaction_tokens)
            )
            task = _Task(kind, past, shown, counts)
            reply = await self._reply(task, history[:test_end], end)
            if reply is None:
                break
            rows.append(_row(task, reply, self._prompts, past_tokens=settings.past_tokens))
            start, past = end, reply.text
        if self._config.checks.whole_users and len(rows) == 1:
            rows.clear()
        counts[f"users.with_{len(rows)}_rows"] += 1
        return Outcome(tuple(rows), counts)

    async def _reply(self, task: _Task, history: Choices, start: int) -> SummaryReply | None:
        """The checked reply, tested on choices from `history[start]` on; None when there is none."""
        task.note("attempted")
        try:
            task.targets = await self._targets(history, start)
            if len(task.targets) < self._config.targets.least:
                task.note("without_targets")
                return None
            task.note("targets", len(task.targets))
            reply = await self._checked_summary(task)
        except EngineRejected:
            task.note("engine_refused")
            return None
        if reply is not None:
            task.note("rows")
        return reply

    async def _targets(self, history: Choices, start: int) -> list[ComparisonInteraction]:
        """The best predictable choices from `start` on, in their order."""
        settings = self._config.targets
        scores = await self._scorer.score(history, start)
        predictable = [(-score, index) for index, score in enumerate(scores, start) if score >= settings.threshold]
        return [history[index] for index in sorted(index for _, index in sorted(predictable)[: settings.most])]

    async def _checked_summary(self, task: _Task) -> SummaryReply | None:
        """A summary that has passed both checks."""
        drafts = await self._drafts(task)
        shares = await gather_all(self._accuracy(draft, task) for draft in drafts)
        passed = [
            (draft, share) for draft, share in zip(drafts, shares, strict=True) if share >= self._config.checks.first
        ]
        task.note("failed_first_check", len(drafts) - len(passed))
        task.note("passed_first_check", len(passed))
        if not passed:
            task.note("without_draft")
            return None
        if len(passed) == 1:
            reply, share = passed[0]
        else:
            merged = await self._merge([draft for draft, _ in passed], task)
            if merged is None:
                return None
            reply, share = merged, await self._accuracy(merged, task)
        if share < self._config.checks.second:
            task.note("failed_second_check")
            return None
        return reply

    async def _drafts(self, task: _Task) -> list[SummaryReply]:
        """The teacher's usable drafts, without repetitions."""
        sampling, past_tokens = self._config.candidates, self._config.history.past_tokens
        guides = [(target,) for target in task.targets] if sampling.per_target else [task.targets] * sampling.count
        prompts = [guided_prompt(task.past, task.shown, guide, past_tokens=past_tokens).messages for guide in guides]
        answers = await gather_all(
            self._teacher.complete(messages, sampling, sample) for sample, messages in enumerate(prompts)
        )
        task.note("candidates", len(answers))
        usable = [draft for answer in answers if (draft := self._usable(answer, task)) is not None]
        distinct = {draft.text: draft for draft in reversed(usable)}
        task.note("repeated", len(usable) - len(distinct))
        return list(reversed(distinct.values()))

    async def _merge(self, drafts: Sequence[SummaryReply], task: _Task) -> SummaryReply | None:
        task.note("merges")
        answer = await self._teacher.complete(merge_prompt(drafts).messages, self._config.candidates)
        return self._usable(answer, task)

    def _usable(self, answer: Answer, task: _Task) -> SummaryReply | None:
        """The reply as the services parse it, unless it is malformed or reveals a target."""
        try:
            evidence = Evidence(plain_history(task.shown), task.past or "")
            reply = parse_summary(answer.text, max_chars=self._config.candidates.max_chars, evidence=evidence)
        except EngineError:
            reply = None
        if reply is None or not reply.reasoning or not answer.whole:
            task.note("unreadable")
            return None
        text = f"{reply.reasoning}\n{reply.text}"
        if leaks(text, task.targets, task.shown, past=task.past, words=self._config.checks.leak_words):
            task.note("leaked")
            return None
        return reply

    async def _accuracy(self, reply: SummaryReply, task: _Task) -> float:
        """Share of the targets for which the judge, by the summary alone, picks the user's choice."""
        probabilities = await gather_all(
            judge_choice(self._judge, reply.text, target.pairs()[0], prompts=self._judge_prompts)
            for target in task.targets
        )
        return sum(probability > 0.5 for probability in probabilities) / len(probabilities)
