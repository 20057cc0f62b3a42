"""What the tests of files for operators share: each overlay's objects, and the series that are exported."""

import pytest

from tests.containers.exported import Series, known_series
from tests.containers.manifests import OVERLAYS, Objects, rendered


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> Objects:
    return rendered(request.param)


@pytest.fixture(scope="session")
def known() -> Series:
    return known_series()
