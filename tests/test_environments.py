"""Tests of training say plainly that the services' environment cannot run them."""

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_tests_of_training_are_never_left_out_in_silence() -> None:
    assert importlib.util.find_spec("torch") is None, "the services must not need torch: run these tests in .venv"
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/unit"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout
    assert "test_rewards.py" not in ran.stdout
    assert "tests/unit/training tests/unit/evaluation need .venv-training" in ran.stdout
