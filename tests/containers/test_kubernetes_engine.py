"""vLLM's own parser takes the arguments of every engine in the manifests."""

import json
import subprocess

import pytest

from tests.containers.manifests import OVERLAYS, ROOT, pods, rendered

ENGINE_PYTHON = ROOT / ".venv-engine" / "bin" / "python"

PARSER = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = make_arg_parser(FlexibleArgumentParser())
for arguments in json.load(sys.stdin):
    parser.parse_args(arguments)
    print("taken")
"""


def _parsed(lines: list[list[str]]) -> "subprocess.CompletedProcess[str]":
    if not ENGINE_PYTHON.exists():
        pytest.fail("no vLLM to ask: make .venv-engine/.ready")
    return subprocess.run(
        [ENGINE_PYTHON, "-c", PARSER],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        check=False,
        env={"VLLM_TARGET_DEVICE": "cpu", "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"},
    )


@pytest.mark.live
def test_vllm_knows_every_argument() -> None:
    lines = {
        tuple(container["args"])
        for overlay in OVERLAYS
        for pod in pods(rendered(overlay))
        for container in pod.containers
        if container["name"] == "engine" and "args" in container
    }
    told = _parsed([*map(list, lines), ["--max-num-sequences-of-old=1"]])
    assert told.stdout.count("taken") == len(lines), told.stderr[-2000:]
    assert "max-num-sequences-of-old" in told.stderr  # what it does not know it refuses
