"""`from alignx import …`: every public name is there, and a service that needs the schemas loads no client."""

import subprocess
import sys

import pytest

import alignx
from alignx.client.client import AlignX


def test_every_public_name_can_be_imported() -> None:
    assert alignx.AlignX is AlignX
    assert all(getattr(alignx, name) for name in alignx.__all__)


def test_any_other_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'alignx' has no attribute 'Nothing'"):
        alignx.Nothing  # noqa: B018


def test_the_schemas_load_no_http_client() -> None:
    code = "import sys, alignx.schemas.requests; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
