"""Writes the reference pages that the code already holds: settings, errors and metrics.

    python -m docs.write_reference        (writes the pages of docs/reference/)

A test fails when a page is older than the code.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from alignx.schemas.status import PROBLEM_PREFIX
from docs import exported_metrics
from services.errors import error_tree
from services.settings import Settings

FOLDER = Path(__file__).with_name("reference")

CONFIGURATION = """\
# Configuration

Written by `python -m docs.write_reference` from services/settings.py.

Every process reads the same settings from its environment and checks them before it starts; a value
that is not valid ends it with a line that names the variable. A secret can also be a file: with
`ALIGNX_SECRETS_DIR` set, the file named like the variable is read.
"""

ERRORS = """\
# Errors

Written by `python -m docs.write_reference` from services/errors.py.

Errors are RFC 9457 documents (`application/problem+json`): `type`, `title`, `status`, `detail`, and
where they help `errors` (a list of `field` and `message`), `limit`, `request_id`. On the paths of OpenAI's API, those
that lead nowhere here among them, the same error comes in OpenAI's shape, with the code below as `error.code`; on
`/v1/messages` in Anthropic's, with its `error.type` by status.
A `Retry-After` header says when a retry is worthwhile.
"""


def configuration() -> str:
    of_all: list[str] = []
    blocks: list[str] = []
    for name, field in Settings.model_fields.items():
        block = field.annotation
        if isinstance(block, type) and issubclass(block, BaseModel):
            rows = [_row(f"ALIGNX_{name.upper()}__{key.upper()}", inner) for key, inner in block.model_fields.items()]
            blocks.append(f"## {name}\n\n{_table(rows)}")
        else:
            of_all.append(_row(f"ALIGNX_{name.upper()}", field))
    return "\n".join([CONFIGURATION, f"## Every process\n\n{_table(of_all)}", *blocks])


def _row(name: str, field: Any) -> str:
    default = "required" if field.is_required() else f"`{_shown(field.default)}`"
    about = " ".join((field.description or "").split())
    return f"| `{name}` | {default} | {about} |"


def _shown(value: object) -> str:
    if isinstance(value, SecretStr) or value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(rows: list[str]) -> str:
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows]) + "\n"


def errors() -> str:
    rows = [f"| {cls.status} | `{cls.code}` | {cls.title} |" for cls in error_tree()]
    head = ["| status | code | meaning |", "|---:|---|---|"]
    return ERRORS + f"\nThe `type` is `{PROBLEM_PREFIX}<code>`.\n\n" + "\n".join([*head, *rows]) + "\n"


PAGES = {"configuration.md": configuration, "errors.md": errors, "metrics.md": exported_metrics.page}


def main() -> None:
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())


if __name__ == "__main__":
    main()
