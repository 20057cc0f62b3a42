"""The browser looks at the same suite as the live tests."""

from tests.live.conftest import suite

__all__ = ["suite"]
