"""Summaries, versions, differences and rankings as a person reads them in a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import get_args

from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from alignx.cli.terminal import pluralize, sanitize
from alignx.schemas.interactions import Interaction, Message
from alignx.schemas.items import ItemFields, ItemReference, OfferedItem, item_text
from alignx.schemas.many_users import ListedUser
from alignx.schemas.outcomes import Measure, Rate, Uplift
from alignx.schemas.requests import RecommendResponse, SelectResponse
from alignx.schemas.summaries import (
    Claim,
    DeadLetter,
    PreferenceChange,
    Preferences,
    Prequential,
    RejectedDraft,
    StoredInteraction,
    SummaryVersion,
    VersionDiff,
)
from alignx.schemas.tenants import SCOPES, AuditEntry, KeyInfo, Scope
from alignx.schemas.webhooks import Webhook, WebhookDelivery

BAR_CELLS = 20
DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}
NOT_CONTENT = {"type", "id", "occurred_at", "source", "metadata", "directions"}
"""Fields of an interaction that its row of a table leaves out."""


def summary(version: SummaryVersion, *, user: str, reasoning: bool = False) -> RenderableType:
    """The text in a frame; below the text, where it comes from and how well it predicts."""
    body = Text(sanitize(version.text))
    if reasoning and version.reasoning:
        body = Text.assemble((sanitize(version.reasoning), "dim"), "\n\n", body)
    title = Text(sanitize(f"{user}: version {version.version}, by {version.source}"))
    body = Text.assemble(body, "\n\n", (_state(version), "dim"))
    return Panel(body, title=title, title_align="left")


def _state(version: SummaryVersion) -> str:
    facts = [_minute(version.created_at)]
    if unsupported := sum(not claim.supported for claim in version.claims):
        facts.append(f"{pluralize(unsupported, 'sentence')} that no event supports")
    if isinstance(version, Preferences):
        facts.append(pluralize(version.events_total, "event"))
        if version.pending:
            reason = f" (waiting for: {version.waiting_for})" if version.waiting_for else ""
            facts.append(f"{version.pending} not yet read{reason}")
        facts += [f"{scorer}: {_accuracy(quality)}" for scorer, quality in version.quality.items()]
        facts += [change_line(version.changed)] if version.changed else []
    elif version.prequential:
        facts.append(_accuracy(version.prequential))
    return " | ".join(facts)


def _accuracy(quality: Prequential) -> str:
    if quality.accuracy is None:
        return "no choice predicted yet"
    latest = f", {quality.recent.accuracy:.0%} of the latest" if quality.recent else ""
    return f"{quality.accuracy:.0%} of {pluralize(quality.comparisons, 'choice')} predicted{latest}"


def change_line(change: PreferenceChange) -> str:
    """What a reader should know of a change of preferences."""
    since = f"{_minute(change.since)}: {change.accuracy_before:.0%} predicted before, {change.accuracy_since:.0%} then"
    return sanitize(f"choices changed {since}. {change.text}".strip())


def versions(page: Iterable[SummaryVersion]) -> Table:
    table = Table("version", "created", "by", "from", "events", "predicted", "text")
    for version in page:
        parent = f"={version.restored_from}" if version.restored_from else str(version.parent or "history")
        accuracy = version.prequential.accuracy if version.prequential else None
        _add_row(
            table,
            str(version.version),
            _minute(version.created_at),
            version.source,
            parent,
            str(version.events.count),
            f"{accuracy:.0%}" if accuracy is not None else "",
            _shorten(version.text, 80),
        )
    return table


def rejected(drafts: Iterable[RejectedDraft]) -> Table:
    table = Table("made", "by", "check", "reason", "events", "text")
    for draft in drafts:
        moment, count = _minute(draft.created_at), str(draft.events.count)
        _add_row(table, moment, draft.source, draft.check, draft.reason, count, _shorten(draft.text))
    return table


def difference(diff: VersionDiff) -> Text:
    """The unified diff, green for what came and red for what went; the signs stay for plain screens."""
    lines = [
        Text(line, style="bold" if line.startswith(("---", "+++")) else DIFF_STYLES.get(line[:1], ""))
        for line in sanitize(diff.unified).splitlines()
    ]
    return Text("\n").join(lines)


def events(page: Iterable[StoredInteraction]) -> Table:
    table = Table("event", "occurred", "type", "content")
    for stored in page:
        event = stored.interaction
        moment = event.occurred_at or stored.received_at
        _add_row(table, stored.event_id, _minute(moment), event.type, _shorten(_content(event)))
    return table


def claims(sentences: Iterable[Claim], kept: Mapping[str, Interaction]) -> Table:
    """Each with its events; `kept` has the newest by their ids, as far as they are still kept."""
    table = Table("sentence", "rests on", "newest event")
    for claim in sentences:
        basis = "the user's own words" if claim.kind == "own" else pluralize(claim.count, "event")
        event = kept.get(claim.support[-1]) if claim.support else None
        newest = f"{event.type}: {_shorten(_content(event))}" if event else ""
        _add_row(table, claim.text, basis if claim.supported else "no event supports this", newest)
    return table


def _content(event: Interaction) -> str:
    """The fields that say what happened: a text alone as it is, several with their names."""
    fields = {name: _field_text(value) for name, value in event if name not in NOT_CONTENT and value not in (None, ())}
    return (
        fields["text"] if fields.keys() == {"text"} else "; ".join(f"{name}: {text}" for name, text in fields.items())
    )


def _field_text(value: object) -> str:
    if isinstance(value, ItemFields):
        return value.title
    if isinstance(value, Message):
        return f"{value.role}: {value.content}"
    if isinstance(value, tuple):
        return ", ".join(map(_field_text, value))
    return str(value)


def dead_letters(page: Iterable[DeadLetter]) -> Table:
    table = Table("event", "failed", "type", "error")
    for letter in page:
        kind = letter.interaction.type if letter.interaction else "unreadable"
        _add_row(table, letter.event_id, _minute(letter.failed_at), kind, letter.error)
    return table


def selection(answer: SelectResponse, items: Sequence[OfferedItem]) -> Table:
    """The items, likeliest first."""
    table = Table("", "probability", "", "item")
    for scored in sorted(answer.items, key=lambda item: -item.probability):
        bar = "#" * round(scored.probability * BAR_CELLS)
        mark, style = (">", "bold") if scored.index == answer.choice else ("", "")
        _add_row(table, mark, f"{scored.probability:.1%}", bar, _name(items[scored.index]), style=style)
    return table


def ranking(answer: RecommendResponse, candidates: Sequence[OfferedItem]) -> Table:
    is_explained = any(ranked.reason for ranked in answer.items)
    table = Table("rank", "score", "item", *(("reason",) if is_explained else ()))
    for ranked in answer.items:
        reason = (ranked.reason or "",) if is_explained else ()
        item = _name(candidates[ranked.index])
        _add_row(table, str(ranked.rank), f"{ranked.score:.3f}", item, *reason)
    return table


def _name(item: OfferedItem) -> str:
    return item.id if isinstance(item, ItemReference) else _shorten(item_text(item))


def keys(page: Iterable[KeyInfo]) -> Table:
    table = Table("id", "name", "tenant", "scopes", "rate/s", "created", "ends", "old secret until")
    for key in page:
        ends = f"revoked {key.revoked_at:%Y-%m-%d}" if key.revoked_at else _day(key.expires_at)
        previous = _minute(key.previous_until) if key.previous_until else ""
        cells = (key.id, key.name, key.tenant, _scopes(key.scopes), f"{key.rate:g}", _day(key.created_at))
        _add_row(table, *cells, ends, previous)
    return table


def users(page: Iterable[ListedUser]) -> Table:
    table = Table("user", "events", "pending", "version", "updated", "since")
    for user in page:
        updated = _minute(user.updated_at) if user.updated_at else "–"
        numbers = map(str, (user.events, user.pending, user.version))
        _add_row(table, user.user, *numbers, updated, _day(user.created_at))
    return table


def webhooks(endpoints: Iterable[Webhook]) -> Table:
    table = Table("id", "url", "events", "state")
    for webhook in endpoints:
        failing = f"failing since {_minute(webhook.failing_since)}" if webhook.failing_since else ""
        _add_row(table, webhook.id, webhook.url, " ".join(webhook.events), webhook.disabled or failing or "enabled")
    return table


def deliveries(page: Iterable[WebhookDelivery]) -> Table:
    table = Table("id", "at", "event", "user", "status", "attempts", "answer")
    for delivery in page:
        event, answer = delivery.event, delivery.error or str(delivery.response or "")
        head = (delivery.id, _second(event.timestamp), event.type, event.data.user or "")
        _add_row(table, *head, delivery.status, str(delivery.attempts), answer)
    return table


def _scopes(scopes: Sequence[Scope]) -> str:
    if missing := [scope for scope in SCOPES if scope not in scopes]:
        return "all but admin" if missing == ["admin"] else " ".join(scopes)
    return "all"


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else ""


def audit(page: Iterable[AuditEntry]) -> Table:
    table = Table("at", "key", "action", "target")
    for entry in page:
        _add_row(table, _second(entry.at), entry.key_id, entry.action, entry.target)
    return table


def quality(by_scorer: Mapping[str, Prequential]) -> Table:
    table = Table("scorer", "choices", "predicted", "95 % interval", "mean probability", caption="a coin: 50%")
    for scorer, state in by_scorer.items():
        accuracy, mean = (
            f"{rate:.1%}" if rate is not None else "" for rate in (state.accuracy, state.mean_probability)
        )
        _add_row(table, scorer, str(state.comparisons), accuracy, _ends(state.low, state.high), mean)
    return table


def uplift(figures: Uplift) -> Table:
    table = Table("measure", "arm", "users", "of", "rate", "95 % interval")
    for measure in get_args(Measure):
        for arm, outcomes in figures.arms.items():
            rate: Rate = getattr(outcomes, measure)
            shown = "" if rate.rate is None else f"{rate.rate:.1%}"
            of = f"{rate.successes} of {rate.trials}"
            _add_row(table, measure, arm, str(rate.users), of, shown, _ends(rate.low, rate.high))
        if difference := figures.uplift.get(measure):
            ends = _ends(difference.low, difference.high)
            _add_row(table, measure, "uplift", "", "", f"{difference.value:+.1%}", ends)
    if figures.since and figures.until:
        table.caption = f"Answers of {_minute(figures.since)} to {_minute(figures.until)} UTC"
    if not figures.holdout_share:
        table.caption = "No users are held out: set holdout_share to compare."
    return table


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.1%} to {high:.1%}"


def checks(states: Mapping[str, str]) -> Table:
    table = Table("check", "state")
    for name, state in states.items():
        table.add_row(name, Text(sanitize(state), style="green" if state == "ok" else "red"))
    return table


def findings(lines: Iterable[tuple[str, str, str]]) -> Table:
    """Each with its part, its state and what to do."""
    table = Table("part", "state", "what to do")
    for part, state, advice in lines:
        _add_row(table, part, state, advice, style="" if state == "ok" or part == "engine record" else "red")
    return table


def _add_row(table: Table, *cells: str, style: str = "") -> None:
    """No markup and no control character is read in a cell."""
    table.add_row(*(Text(sanitize(cell)) for cell in cells), style=style)


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _second(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _shorten(text: str, longest: int = 200) -> str:
    """The text as one line."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
