"""All stored data of one user as JSON lines, which `alignx ingest` reads."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import orjson

from services.outcomes.chats import ChatOutbox
from services.storage.users import Store, reply

_PAGE = 200


async def export_lines(store: Store, tenant: str, user: str) -> AsyncIterator[bytes]:
    """First a header, then a line for each event, each version (oldest first), each rejected draft, each
    chat that is to become an event, each answer that feedback may be about (its items as hashes) and each dead letter.
    Raises UserUnknown at the first."""
    current = await store.preferences(tenant, user)
    header = {
        "kind": "header",
        "format": "alignx-export/1",
        "user": user,
        "exported_at": datetime.now(UTC).isoformat(),
        "events_total": current.events_total,
        "version": current.version,
    }
    yield orjson.dumps(header) + b"\n"
    after: str | None = None
    while page := await store.events(tenant, user, after, _PAGE):
        for event in page:
            yield orjson.dumps({"kind": "event", **event.model_dump(mode="json", exclude_none=True)}) + b"\n"
        after = page[-1].event_id
    versions = await store.versions(tenant, user, None, None)
    for version in reversed(versions):
        yield orjson.dumps({"kind": "version", **version.model_dump(mode="json", exclude_none=True)}) + b"\n"
    for draft in reversed(await store.rejected(tenant, user)):
        yield orjson.dumps({"kind": "rejected_draft", **draft.model_dump(mode="json", exclude_none=True)}) + b"\n"
    for response_id, chat in await ChatOutbox(store.redis, store.keys).waiting(tenant, user):
        yield orjson.dumps({"kind": "chat", "response_id": response_id, "interaction": orjson.loads(chat)}) + b"\n"
    answers = await reply(store.redis.hgetall(store.keys.user(tenant, user).served))
    for response_id, record in sorted(answers.items()):
        yield orjson.dumps({"kind": "answer", "response_id": response_id, "answer": orjson.loads(record)}) + b"\n"
    after = None
    while letters := await store.dead_letters(tenant, user, after, _PAGE):
        for entry_id, letter in letters:
            yield orjson.dumps({"kind": "dead_letter", **letter.model_dump(mode="json", exclude_none=True)}) + b"\n"
            after = entry_id
