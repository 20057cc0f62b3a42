"""An unfit version of TRL or transformers ends a stage with one sentence, before either is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.libraries import REQUIRED

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo"])
@pytest.mark.parametrize(("library", "version"), [("transformers", "5.22.0"), ("trl", "1.15.2"), ("trl", "1.17.0")])
def test_an_unfit_version_is_named_with_the_remedy(tmp_path: Path, stage: str, library: str, version: str):
    metadata = tmp_path / f"{library}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {library}\nVersion: {version}\n")
    (tmp_path / library).mkdir()
    (tmp_path / library / "__init__.py").write_text("raise ImportError('imported')")
    done = subprocess.run(
        [sys.executable, "-m", f"training.{stage}", "absent.toml"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    remedy = "run pip install 'transformers>=5.23' 'trl==1.16.*'"
    assert done.returncode == 2
    needed = f"{library}{REQUIRED[library]}"
    assert done.stderr == f"{library} {version} is installed, but training needs {needed}: {remedy}\n"


def test_the_bounds_are_those_of_the_package():
    project = (ROOT / "pyproject.toml").read_text()
    assert [name for name, bounds in REQUIRED.items() if f'"{name}{bounds}"' not in project] == []
