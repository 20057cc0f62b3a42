"""Summaries, versions, differences and rankings as a person reads them in a terminal."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from alignx.cli.terminal import shown
from alignx.schemas.api_keys import KeyInfo
from alignx.schemas.items import Item, item_text
from alignx.schemas.requests import RecommendResponse, SelectResponse
from alignx.schemas.summaries import (
    DeadLetter,
    Preferences,
    Prequential,
    StoredInteraction,
    SummaryVersion,
    VersionDiff,
)

BAR_CELLS = 20


def summary(version: SummaryVersion, *, user: str, reasoning: bool = False) -> RenderableType:
    """The text in a frame; below it, where it comes from and how well it predicts."""
    body: list[RenderableType] = [Text(shown(version.text))]
    if reasoning and version.reasoning:
        body = [Text(shown(version.reasoning), style="dim"), Text(""), *body]
    title = Text(shown(f"{user}: version {version.version}, by {version.source}"))
    return Panel(Group(*body), title=title, title_align="left", subtitle=Text(_state(version)), subtitle_align="left")


def _state(version: SummaryVersion) -> str:
    facts = [f"{version.created_at:%Y-%m-%d %H:%M}"]
    if isinstance(version, Preferences):
        facts.append(f"{version.events_total} events")
        if version.pending:
            facts.append(f"{version.pending} not yet read")
        facts += [f"{scorer}: {_quality(quality)}" for scorer, quality in version.quality.items()]
    elif version.prequential:
        facts.append(_quality(version.prequential))
    return " | ".join(facts)


def _quality(quality: Prequential) -> str:
    if quality.accuracy is None:
        return "no choice predicted yet"
    return f"{quality.accuracy:.0%} of {quality.comparisons} choices predicted"


def versions(found: Iterable[SummaryVersion]) -> Table:
    table = Table("version", "made", "by", "from", "events", "predicted", "text")
    for version in found:
        origin = f"={version.restored_from}" if version.restored_from else str(version.parent or "history")
        table.add_row(
            str(version.version),
            f"{version.created_at:%Y-%m-%d %H:%M}",
            Text(shown(version.source)),
            origin,
            str(version.events.count),
            f"{version.prequential.accuracy:.0%}" if version.prequential and version.prequential.accuracy else "",
            _cell(version.text),
        )
    return table


def difference(diff: VersionDiff) -> Text:
    """The unified diff, green for what came and red for what went; the signs stay for plain screens."""
    text = Text()
    for line in shown(diff.unified).splitlines():
        style = "bold" if line.startswith(("---", "+++")) else {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        text.append(line + "\n", style=style)
    text.rstrip()
    return text


def events(found: Iterable[StoredInteraction]) -> Table:
    table = Table("event", "occurred", "type", "content")
    for stored in found:
        event = stored.interaction
        moment = event.occurred_at or stored.received_at
        content = event.model_dump_json(
            exclude_none=True, exclude={"type", "id", "occurred_at", "source", "metadata", "directions"}
        )
        table.add_row(stored.event_id, f"{moment:%Y-%m-%d %H:%M}", event.type, _cell(content))
    return table


def dead_letters(found: Iterable[DeadLetter]) -> Table:
    table = Table("event", "failed", "type", "error")
    for letter in found:
        kind = letter.interaction.type if letter.interaction else "unreadable"
        table.add_row(letter.event_id, f"{letter.failed_at:%Y-%m-%d %H:%M}", kind, Text(shown(letter.error)))
    return table


def selection(answer: SelectResponse, items: Sequence[Item]) -> Table:
    """The items, likeliest first."""
    table = Table("", "probability", "", "item")
    for scored in sorted(answer.items, key=lambda one: -one.probability):
        bar = "#" * round(scored.probability * BAR_CELLS)
        mark = ">" if scored.index == answer.choice else ""
        style = "bold" if mark else ""
        table.add_row(mark, f"{scored.probability:.1%}", bar, _cell(item_text(items[scored.index])), style=style)
    return table


def ranking(answer: RecommendResponse, candidates: Sequence[Item]) -> Table:
    explained = any(ranked.reason for ranked in answer.items)
    table = Table("rank", "score", "item", *(("reason",) if explained else ()))
    for ranked in answer.items:
        item, reasons = _cell(item_text(candidates[ranked.index])), (Text(shown(ranked.reason or "")),)
        table.add_row(str(ranked.rank), f"{ranked.score:.3f}", item, *(reasons if explained else ()))
    return table


def keys(found: Iterable[KeyInfo]) -> Table:
    table = Table("id", "name", "tenant", "may", "rate/s", "made", "revoked")
    for key in found:
        table.add_row(
            key.id,
            Text(shown(key.name)),
            key.tenant,
            "administer" if key.admin else "use",
            f"{key.rate:g}",
            f"{key.created_at:%Y-%m-%d}",
            f"{key.revoked_at:%Y-%m-%d}" if key.revoked_at else "",
        )
    return table


def quality(found: Mapping[str, Prequential]) -> Table:
    table = Table("scorer", "choices", "predicted", "mean probability")
    for scorer, state in found.items():
        rates = [f"{rate:.1%}" if rate is not None else "" for rate in (state.accuracy, state.mean_probability)]
        table.add_row(scorer, str(state.comparisons), *rates)
    return table


def checks(found: Mapping[str, str]) -> Table:
    table = Table("check", "state")
    for name, state in found.items():
        table.add_row(name, Text(shown(state), style="green" if state == "ok" else "red"))
    return table


def _cell(text: str, longest: int = 200) -> Text:
    flat = " ".join(shown(text).split())
    return Text(flat if len(flat) <= longest else flat[: longest - 1] + "…")
