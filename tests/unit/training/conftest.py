"""The random checkpoint that tests of the stages train."""

from pathlib import Path

import pytest

from tests.unit.training.nano import write_nano
from tests.unit.training.small_runs import SFT, alignx_row, sft_row, write_config, write_rows


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nano(tmp_path_factory.mktemp("base"), tied=True)


@pytest.fixture(scope="session")
def sft_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "sft.jsonl", [sft_row(number) for number in range(48)])


@pytest.fixture(scope="session")
def alignx_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "alignx.jsonl", [alignx_row(number) for number in range(32)])


@pytest.fixture
def sft_config(tmp_path: Path, base: Path, sft_rows: Path) -> Path:
    """The file of a short fine-tuning, whose output is `out` beside it."""
    return write_config(tmp_path, SFT, model=base, data=sft_rows)
