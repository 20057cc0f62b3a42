"""Edits of a summary by its user: entity tags, conditional writes, rollbacks and diffs of versions."""

import difflib
import re
from datetime import UTC, datetime
from hashlib import sha256

from alignx.schemas.summaries import Preferences, SummaryVersion, VersionDiff
from services.errors import InvalidRequest, PreconditionRequired, StaleVersion
from services.preference.updates.sentence_support import own_claims
from services.prompts.control_tokens import neutralise, strip_invisible
from services.storage.user_profile import USER_SOURCE

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_ETAG = re.compile(r'(?:W/)?"([0-9]{1,18})(?:-[0-9]{1,18}(?:-[0-9a-f]{1,64})?)?"')

_DIGITS = 16
"""Of the hash of version 0 in its tag."""


def etag(current: Preferences) -> str:
    """The version as an entity tag. While no version exists the text follows each event, also one that is forgotten,
    and so does the tag."""
    if current.version:
        return f'"{current.version}"'
    claims = (claim.model_dump_json() for claim in current.claims)
    digest = sha256("\n".join((current.text, *claims)).encode()).hexdigest()[:_DIGITS]
    return f'"0-{current.events_total}-{digest}"'


def matches_any(if_none_match: str | None, tag: str) -> bool:
    """Whether an If-None-Match header names `tag`; weak tags match (RFC 9110, 13.1.2)."""
    tags = {known.strip().removeprefix("W/") for known in (if_none_match or "").split(",")}
    return bool(tags & {tag, "*"})


def resolve_if_match(if_match: str | None, current: int) -> int:
    """The version a conditional write starts from.

    Raises PreconditionRequired without If-Match where there is a version to lose, StaleVersion when
    it names another one, InvalidRequest when it is no entity tag.
    """
    if if_match is None:
        if current:
            raise PreconditionRequired(f'Send If-Match: "{current}" to write over version {current}.')
        return 0
    if if_match.strip() == "*":
        return current
    tag = _ETAG.fullmatch(if_match.strip())
    if not tag:
        raise InvalidRequest(
            'If-Match must be an ETag as read, such as "3".',
            errors=[{"field": "If-Match", "message": 'an ETag such as "3", or *'}],
        )
    if int(tag[1]) != current:
        raise StaleVersion(f"The current version is {current}, not {tag[1]}.", current_version=current)
    return current


def create_edit(text: str, parent: int) -> SummaryVersion:
    """The version that a user's own text becomes, without control tokens and hidden characters. The text is pinned: it
    heads every later version until the next edit. Raises InvalidRequest where nothing is left of it."""
    text = neutralise(strip_invisible(text)).strip()
    if not text:
        message = "it needs a visible character"
        raise InvalidRequest(f"text: {message}", errors=[{"field": "text", "message": message}])
    return SummaryVersion(
        version=parent + 1,
        text=text,
        claims=own_claims(text),
        source=USER_SOURCE,
        parent=parent or None,
        created_at=datetime.now(UTC),
    )


def create_rollback(target: SummaryVersion, current: int) -> SummaryVersion:
    """The version that repeats `target` after version `current`."""
    return SummaryVersion(
        version=current + 1,
        text=neutralise(target.text),
        source=target.source,
        parent=current,
        restored_from=target.version,
        claims=target.claims,
        created_at=datetime.now(UTC),
    )


def diff(old: SummaryVersion, new: SummaryVersion) -> VersionDiff:
    """What changed from `old` to `new`, sentence by sentence."""
    before, after = split_sentences(old.text), split_sentences(new.text)
    lines = list(
        difflib.unified_diff(before, after, f"version {old.version}", f"version {new.version}", lineterm="", n=1)
    )
    changes = lines[2:]  # the first two name the versions
    return VersionDiff(
        from_version=old.version,
        to_version=new.version,
        added=tuple(line[1:] for line in changes if line.startswith("+")),
        removed=tuple(line[1:] for line in changes if line.startswith("-")),
        unified="\n".join(lines),
    )


def split_sentences(text: str) -> list[str]:
    return [sentence.strip() for sentence in _SENTENCE.split(text) if sentence.strip()]
