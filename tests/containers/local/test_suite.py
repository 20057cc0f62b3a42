"""The local runner's decisions; that it runs the suite is what the live tests show."""

import importlib.util
import inspect
import json
import os
import re
import subprocess
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import typer

from alignx.schemas.interactions import INTERACTION
from services.profile.fold import fold
from services.profile.render import render
from services.profile.statistics import EMPTY

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def suite() -> ModuleType:
    spec = importlib.util.spec_from_file_location("local_suite", ROOT / "docker" / "local" / "suite.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("status", "engine", "healthy"),
    [
        ("engine STOPPED Not started\ngateway RUNNING pid 7, uptime 0:00:09\n", "profile", True),
        ("engine STOPPED Not started\ngateway RUNNING pid 7, uptime 0:00:09\n", "vllm-cpu", False),
        ("engine RUNNING pid 8\ngateway RUNNING pid 7, uptime 0:00:09\n", "vllm-cpu", True),
        ("engine STOPPED Not started\ngateway BACKOFF Exited too quickly\n", "profile", False),
        ("", "profile", False),
    ],
)
def test_a_suite_is_healthy_when_all_that_should_run_runs(
    suite: ModuleType, status: str, engine: str, healthy: bool
) -> None:
    assert suite.healthy(status, engine) is healthy


def test_settings_make_a_running_suite_outdated_and_secrets_do_not(suite: ModuleType) -> None:
    settings = {"ALIGNX_QUEUE__BATCH_MAX_TOKENS": "8", "PATH": "/bin"}
    digest = suite.settings_digest(settings)
    for changed in ({"PATH": "/usr/bin"}, {"ALIGNX_URL": "http://a"}, {"ALIGNX_ENGINE__API_KEY": "secret"}):
        assert suite.settings_digest(settings | changed) == digest
    assert suite.settings_digest(settings | {"ALIGNX_QUEUE__BATCH_MAX_TOKENS": "9"}) != digest


@pytest.mark.parametrize(
    ("statuses", "over"),
    [
        (["engine STARTING", "engine RUNNING pid 7, uptime 0:00:09", "engine RUNNING pid 7, uptime 0:00:19"], False),
        (["engine RUNNING pid 7, uptime 0:00:09", "engine RUNNING pid 8, uptime 0:00:01"], True),
        (["engine STARTING", "engine BACKOFF Exited too quickly"], True),
    ],
)
def test_an_engine_that_ends_while_it_starts_is_noticed(suite: ModuleType, statuses: list[str], over: bool) -> None:
    seen: set[str] = set()
    assert [suite.ended(status, seen) for status in statuses][-1] is over


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("auto", ""), ("profile", "")),
        (("profile", ""), ("profile", "")),
        (("auto", "models/mine"), ("vllm-cpu", "models/mine")),
        (("vllm-cpu", "models/alignx-mini"), ("vllm-cpu", "models/alignx-mini")),
        (("http://gpu-box:8000/v1", ""), ("http://gpu-box:8000/v1", "")),
        (("https://gpu-box/v1", "Qwen3-8B"), ("https://gpu-box/v1", "Qwen3-8B")),
    ],
)
def test_a_model_is_served_only_where_it_is_named(
    suite: ModuleType, names: tuple[str, str], chosen: tuple[str, str]
) -> None:
    assert suite.chosen_engine(*names) == chosen


def test_what_nothing_names_is_the_profile(suite: ModuleType) -> None:
    for command in (suite.up, suite.check):
        defaults = {name: parameter.default for name, parameter in inspect.signature(command).parameters.items()}
        assert suite.chosen_engine(defaults["engine"], defaults["model"]) == ("profile", "")


def test_vllm_without_a_model_is_refused_with_what_there_is_to_choose(suite: ModuleType) -> None:
    with pytest.raises(suite.RefusedError) as refused:
        suite.chosen_engine("vllm-cpu", "")
    message = str(refused.value)
    for choice in ("make up MODEL=path/to/checkpoint", "make up ENGINE=http://", "no language model", "a toy"):
        assert choice in message
    with pytest.raises(suite.RefusedError, match="ENGINE=vllm is unknown"):
        suite.chosen_engine("vllm", "models/mine")


def make_up(*arguments: str) -> "subprocess.CompletedProcess[str]":
    bare = {name: value for name, value in os.environ.items() if name not in ("ENGINE", "MODEL", "MAKEFLAGS")}
    command = ["make", "-C", str(ROOT), "up", *arguments]
    return subprocess.run(command, env=bare, text=True, capture_output=True, check=False)


def test_make_refuses_it_before_it_installs_anything(suite: ModuleType, tmp_path: Path) -> None:
    home = tmp_path / "var"
    done = make_up("-o", ".venv/.run", "ENGINE=vllm-cpu", f"DATA={home}")
    assert done.returncode != 0
    assert done.stderr.startswith(suite.NO_MODEL.read_text())
    assert not home.exists()
    planned = make_up("--dry-run", "-W", "pyproject.toml", "ENGINE=vllm-cpu").stdout
    assert planned.index("no_model.txt") < planned.index("Setting up .venv ")


@pytest.mark.parametrize("arguments", [(), ("ENGINE=profile",), ("ENGINE=http://gpu-box:8000/v1",)])
def test_make_installs_no_engine_unless_a_model_is_named(arguments: tuple[str, ...]) -> None:
    assert ".venv-engine" not in make_up("--dry-run", *arguments).stdout
    planned = make_up("--dry-run", "-W", "docker/engine-cpu.lock", "MODEL=models/mine").stdout
    assert planned.index("local.suite check") < planned.index("install.sh --torch .venv-engine")


def test_what_stands_against_an_engine_is_said(
    suite: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite.platform, "system", lambda: "Linux")
    monkeypatch.setattr(suite.platform, "machine", lambda: "x86_64")
    assert "no checkpoint" in suite.engine_obstacle(str(tmp_path), free_memory=8 << 30)
    (tmp_path / "config.json").write_text("{}")
    assert suite.engine_obstacle(str(tmp_path), free_memory=8 << 30) is None
    assert "4 GiB of free memory, here are 1.0" in suite.engine_obstacle(str(tmp_path), free_memory=1 << 30)
    monkeypatch.setattr(suite.platform, "machine", lambda: "arm64")
    assert "Linux on arm64" in suite.engine_obstacle(str(tmp_path), free_memory=8 << 30)


def test_what_cannot_run_is_refused_before_anything_is_written(
    suite: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "var"
    for command in (suite.up, suite.check):
        with pytest.raises(typer.Exit):
            command(engine="vllm-cpu", model=str(tmp_path / "none"), home=home)
        assert "There is no checkpoint in" in capsys.readouterr().out
    assert not home.exists()


@pytest.mark.parametrize("model", ["models/alignx-mini", "./models/alignx-mini/", str(ROOT / "models" / "alignx-mini")])
def test_a_toy_is_called_one(suite: ModuleType, model: str) -> None:
    warning = suite.toy_warning(model)
    assert warning.startswith(f"Warning: {model} is a toy")
    assert "nonsense on ordinary English" in warning
    assert "\n" not in warning


def test_no_other_model_is_warned_of(suite: ModuleType) -> None:
    assert "random weights" in suite.toy_warning("models/alignx-tiny")
    assert suite.toy_warning("models/mine") is None
    assert suite.toy_warning("") is None


def test_an_engine_that_does_not_answer_is_warned_of(suite: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(url: str, **_: object) -> httpx.Response:
        assert url == "http://gpu/v1/models"
        if statuses[0]:
            return httpx.Response(statuses[0])
        raise httpx.ConnectError("refused")

    statuses = [200]
    monkeypatch.setattr(suite.httpx, "get", get)
    assert suite.engine_warning("http://gpu/v1/") is None
    statuses = [401]
    assert "answers 401 when asked for its models" in suite.engine_warning("http://gpu/v1")
    statuses = [0]
    assert "http://gpu/v1 does not answer (ConnectError)" in suite.engine_warning("http://gpu/v1")
    assert suite.engine_warning("profile") is None


def test_what_up_prints_says_what_runs_and_gives_a_first_call(
    suite: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite._greet(8080, "ax_key", "profile", "", tmp_path)
    output = capsys.readouterr().out
    assert output.endswith(f"make demo DATA={tmp_path}\n")
    assert "no language model: everything works but chat" in output
    assert "make up MODEL=path/to/checkpoint" in output
    assert "Warning" not in output
    (event,) = json.loads(re.findall(r"-d '(.*)'$", output, re.MULTILINE)[0])["events"]
    profile, _ = fold(EMPTY, INTERACTION.validate_python(event))
    assert "short and to the point" in render(profile)


def test_a_home_too_long_for_a_socket_is_refused(
    suite: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / ("long" * 25)
    with pytest.raises(typer.Exit):
        suite.up(home=home)
    assert "too long a path" in " ".join(capsys.readouterr().out.split())
    assert not home.exists()


def test_a_kept_key_is_made_anew_only_where_it_is_refused(
    suite: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            known.append(f"key-{len(known)}")
            return httpx.Response(201, json={"key": known[-1]})
        return httpx.Response(200 if request.headers["Authorization"][7:] in known[-1:] else 401)

    client = httpx.Client(transport=httpx.MockTransport(handle))
    monkeypatch.setattr(suite, "httpx", client)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "admin_key").write_text("admin")
    assert [suite._first_key("http://gateway", tmp_path) for _ in range(2)] == ["key-0", "key-0"]
    known.append("after the data were removed")
    assert [suite._first_key("http://gateway", tmp_path) for _ in range(2)] == ["key-2", "key-2"]


@pytest.mark.parametrize(("compiler", "flag"), [("/usr/bin/g++", None), (None, "1")])
def test_without_a_compiler_nothing_is_compiled(
    suite: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str | None, flag: str | None
) -> None:
    (tmp_path / "secrets").mkdir()
    monkeypatch.delenv("TORCH_COMPILE_DISABLE", raising=False)
    monkeypatch.setattr(suite, "_compiler", lambda: compiler)
    environment = suite.suite_environment(tmp_path, 18000, "vllm-cpu", "models/alignx-mini")
    assert environment.get("TORCH_COMPILE_DISABLE") == flag
    assert ("--enforce-eager" in environment["ALIGNX_ENGINE_COMMAND"]) == (compiler is None)
