"""What the live tests share: a real vLLM on the CPU, and the suite without and with it.

Nothing here is skipped: a missing engine or checkpoint fails the test and says what makes it.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import free_port
from tests.live.suite import ROOT, SHARED_DATA, Suite, run, wait_until_up

ENGINE_PYTHON = ROOT / ".venv-engine" / "bin" / "python"
TINY_MODEL = ROOT / "models" / "alignx-tiny"
ENGINE_START_S = 300.0
ENGINE_OPTIONS = (
    "--host 127.0.0.1 --max-model-len 8192 --max-num-seqs 32 --block-size 32 --enforce-eager "
    "--enable-prompt-tokens-details --scheduling-policy priority --disable-uvicorn-access-log"
)

STRICT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == "system" -%}{{ raise_exception("System role not supported") }}{%- endif -%}
{%- if (message.role == "user") != (loop.index0 % 2 == 0) -%}
{{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
{%- endif -%}
<start_of_turn>{{ message.role }}
{{ message.content }}{% if not loop.last %}<end_of_turn>{% endif %}
{% endfor -%}
{%- if add_generation_prompt -%}<start_of_turn>model
{% endif -%}
"""


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data beside the checkout; CI has it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is absent: this test measures on real public data that is not part of the project")
    return SHARED_DATA


@pytest.fixture(scope="session")
def engine_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL, /v1 included, of a real vLLM with the tiny random checkpoint."""
    yield from serve_model(TINY_MODEL, tmp_path_factory.mktemp("engine") / "engine.log")


@pytest.fixture(scope="module")
def strict_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real vLLM with a small window, a chat template that refuses a system role and turns that do not alternate,
    as Gemma's and Mistral's do, and requests served by arrival."""
    folder = tmp_path_factory.mktemp("strict-engine")
    (folder / "template.jinja").write_text(STRICT_TEMPLATE)
    options = ENGINE_OPTIONS.replace("8192", "2048").replace("--scheduling-policy priority ", "")
    yield from serve_model(TINY_MODEL, folder / "engine.log", f"{options} --chat-template {folder / 'template.jinja'}")


def serve_model(model: Path, log_path: Path, options: str = ENGINE_OPTIONS) -> Iterator[str]:
    for path in (ENGINE_PYTHON, model):
        if not path.exists():
            pytest.fail(f"{path.relative_to(ROOT)} is missing; `make test` makes it")
    port = free_port()
    command: list[str | Path] = [ENGINE_PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    command += ["--port", str(port), "--served-model-name", model.name, *options.split()]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("COV_")},
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "TORCH_COMPILE_DISABLE": "1",  # the first choice would otherwise compile its sampler for seconds
    }
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}/health"
        wait_until_up(url, process, ENGINE_START_S, lambda: f"vLLM: {log_path.read_text()[-3000:]}")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="session")
def engine_suite(tmp_path_factory: pytest.TempPathFactory, engine_url: str) -> Iterator[Suite]:
    """The suite in front of the real engine."""
    settings = {
        "ALIGNX_ENGINE__URL": engine_url,
        "ALIGNX_SUMMARY__MAX_TOKENS": "96",
        "ALIGNX_RESPONSE__SELECT_TIMEOUT_S": "30",  # on a busy CPU the engine is slow
        "ALIGNX_ENGINE__FIRST_TOKEN_TIMEOUT_S": "60",
    }
    with Suite(tmp_path_factory.mktemp("engine-suite"), settings).running() as suite:
        yield suite


@pytest.fixture(scope="session")
def client_python(pytestconfig: pytest.Config) -> Path:
    """The interpreter of the clients' environment, which is made once and brought up to date."""
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("clients") / "venv"
    run("docker/local/install.sh", folder, "-r", "tests/live/clients/requirements.txt", timeout_s=600)
    return folder / "bin" / "python"
