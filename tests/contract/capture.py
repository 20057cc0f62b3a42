"""What callers, dashboards, operators and Redis see of the suite, as four texts.

    python -m tests.contract.capture        (writes tests/contract/snapshots/; starts a Redis of its own)

openapi.json   the documents of the HTTP apps, and the merged one that the gateway serves
metrics.txt    every metric of every process
settings.txt   every setting by its variable, with type, bounds and default
redis.txt      what a fixed scenario leaves in Redis, and what it was answered (scenario.py)

Code that moves must leave all four as they are, to the byte; test_contract.py compares them.
"""

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from docs.exported_metrics import exported
from services.settings import Settings
from tests.conftest import free_port
from tests.contract.declared import documents, merged_document
from tests.contract.scenario import play_scenario
from tests.unit.services.preference.rig import start_redis, stop_redis

SNAPSHOTS = Path(__file__).with_name("snapshots")
COMMAND = "python -m tests.contract.capture"


def openapi() -> str:
    """The documents in the order of their keys as they are served."""
    own, parts = documents()
    named = {**parts, "gateway": own, "merged": merged_document()}
    return json.dumps(named, indent=1, ensure_ascii=False) + "\n"


def metrics() -> str:
    """A line a metric: job, name, type, labels, help."""
    lines = [
        f"{job} {metric.name} {metric.kind} [{', '.join(sorted(metric.labels))}] {metric.about!r}"
        for job, families in sorted(exported().items())
        for _, metric in sorted(families.items())
    ]
    return "\n".join(lines) + "\n"


def settings() -> str:
    """A line a setting: variable, type, bounds, default."""
    prefix = Settings.model_config.get("env_prefix", "")
    delimiter = Settings.model_config.get("env_nested_delimiter") or ""
    return "".join(f"{line}\n" for line in _lines(Settings, None, prefix, delimiter))


def _lines(model: type[BaseModel], block: BaseModel | None, prefix: str, delimiter: str) -> Iterator[str]:
    """`block` is what the setting holds unless the environment says otherwise; it may differ from the model's own."""
    for name, field in model.model_fields.items():
        kind, variable = field.annotation, prefix + name.upper()
        default = getattr(block, name) if block else field.get_default(call_default_factory=True)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _lines(kind, default, variable + delimiter, delimiter)
        else:
            bounds = "".join(f" {bound!r}" for bound in field.metadata)
            yield f"{variable}: {_kind(field)}{bounds} = {'required' if field.is_required() else repr(default)}"


def _kind(field: FieldInfo) -> str:
    if field.annotation is SecretStr:
        return "pydantic.types.SecretStr"  # as inside of a union
    return field.annotation.__name__ if isinstance(field.annotation, type) else str(field.annotation)


DOCUMENTS: dict[str, Callable[[], str]] = {"openapi.json": openapi, "metrics.txt": metrics, "settings.txt": settings}
"""Those that need no Redis."""
REDIS = "redis.txt"


def main() -> None:
    texts = {name: document() for name, document in DOCUMENTS.items()}
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        process = start_redis(Path(folder), port)
        try:
            texts[REDIS] = asyncio.run(play_scenario(f"redis://127.0.0.1:{port}/0"))
        finally:
            stop_redis(process)
    SNAPSHOTS.mkdir(exist_ok=True)
    for name, text in texts.items():
        (SNAPSHOTS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
