"""Settings of a test's fixtures: `@with_settings(concurrency=1)` is what its fixture `settings` holds."""

from typing import Any

import pytest


def with_settings(**fields: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("settings", [fields], ids=[pytest.HIDDEN_PARAM])
