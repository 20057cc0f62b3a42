"""Which engine `make up` starts, its environment, and what it prints. That it starts is seen by running it."""

import inspect
import json
import os
import re
import subprocess
from pathlib import Path

import httpx
import pytest
import typer
from rich.console import Console

from alignx.schemas.interactions import INTERACTION
from docker.local import engine, environment, first_steps, processes, suite
from services.profile.fold import fold
from services.profile.render import render
from services.profile.statistics import EMPTY

ROOT = Path(__file__).resolve().parents[4]


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
def test_a_suite_is_healthy_when_all_that_should_run_runs(status: str, engine: str, healthy: bool) -> None:
    assert suite.is_healthy(status, engine) is healthy


def test_settings_make_a_running_suite_outdated_and_secrets_do_not() -> None:
    settings = {"ALIGNX_QUEUE__BATCH_MAX_TOKENS": "8", "PATH": "/bin"}
    digest = environment.settings_digest(settings)
    for changed in ({"PATH": "/usr/bin"}, {"ALIGNX_URL": "http://a"}, {"ALIGNX_ENGINE__API_KEY": "secret"}):
        assert environment.settings_digest(settings | changed) == digest
    assert environment.settings_digest(settings | {"ALIGNX_QUEUE__BATCH_MAX_TOKENS": "9"}) != digest


@pytest.mark.parametrize(
    ("statuses", "over"),
    [
        (["engine STARTING", "engine RUNNING pid 7, uptime 0:00:09", "engine RUNNING pid 7, uptime 0:00:19"], False),
        (["engine RUNNING pid 7, uptime 0:00:09", "engine RUNNING pid 8, uptime 0:00:01"], True),
        (["engine STARTING", "engine BACKOFF Exited too quickly"], True),
    ],
)
def test_an_engine_that_ends_while_it_starts_has_ended(statuses: list[str], over: bool) -> None:
    pids: set[str] = set()
    assert [processes.has_ended(status, pids) for status in statuses][-1] is over


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
def test_a_model_is_served_only_where_it_is_named(names: tuple[str, str], chosen: tuple[str, str]) -> None:
    assert engine.chosen_engine(*names) == chosen


def test_what_nothing_names_is_the_profile() -> None:
    for command in (suite.up, suite.check):
        defaults = {name: parameter.default for name, parameter in inspect.signature(command).parameters.items()}
        assert engine.chosen_engine(defaults["engine"], defaults["model"]) == ("profile", "")


def test_vllm_without_a_model_is_refused_with_what_there_is_to_choose() -> None:
    with pytest.raises(engine.RefusedError) as refused:
        engine.chosen_engine("vllm-cpu", "")
    message = str(refused.value)
    for choice in ("make up MODEL=path/to/checkpoint", "make up ENGINE=http://", "no language model", "a toy"):
        assert choice in message
    with pytest.raises(engine.RefusedError, match="ENGINE=vllm is unknown"):
        engine.chosen_engine("vllm", "models/mine")


def make_up(*arguments: str) -> "subprocess.CompletedProcess[str]":
    bare = {name: value for name, value in os.environ.items() if name not in ("ENGINE", "MODEL", "MAKEFLAGS")}
    command = ["make", "-C", str(ROOT), "up", *arguments]
    return subprocess.run(command, env=bare, text=True, capture_output=True, check=False)


def test_make_refuses_it_before_it_installs_anything(tmp_path: Path) -> None:
    home = tmp_path / "var"
    done = make_up("-o", ".venv/.run", "ENGINE=vllm-cpu", f"DATA={home}")
    assert done.returncode != 0
    assert done.stderr.startswith(engine.NO_MODEL.read_text())
    assert not home.exists()
    planned = make_up("--dry-run", "-W", "pyproject.toml", "ENGINE=vllm-cpu").stdout
    assert planned.index("no_model.txt") < planned.index("Setting up .venv ")


@pytest.mark.parametrize("arguments", [(), ("ENGINE=profile",), ("ENGINE=http://gpu-box:8000/v1",)])
def test_make_installs_no_engine_unless_a_model_is_named(arguments: tuple[str, ...]) -> None:
    assert ".venv-engine" not in make_up("--dry-run", *arguments).stdout
    planned = make_up("--dry-run", "-W", "docker/engine-cpu.lock", "MODEL=models/mine").stdout
    assert planned.index("local.suite check") < planned.index("install.sh --torch .venv-engine")


def test_what_stands_against_an_engine_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.platform, "system", lambda: "Linux")
    monkeypatch.setattr(engine.platform, "machine", lambda: "x86_64")
    assert "no checkpoint" in engine.engine_obstacle(str(tmp_path), free_memory=8 << 30)
    (tmp_path / "config.json").write_text("{}")
    assert engine.engine_obstacle(str(tmp_path), free_memory=8 << 30) is None
    assert "needs 4 GiB of free memory; this machine has 1.0" in engine.engine_obstacle(
        str(tmp_path), free_memory=1 << 30
    )
    monkeypatch.setattr(engine.platform, "machine", lambda: "arm64")
    assert "Linux on arm64" in engine.engine_obstacle(str(tmp_path), free_memory=8 << 30)


def test_what_cannot_run_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "var"
    for command in (suite.up, suite.check):
        with pytest.raises(typer.Exit):
            command(engine="vllm-cpu", model=str(tmp_path / "none"), home=home)
        assert "There is no checkpoint in" in capsys.readouterr().out
    assert not home.exists()


@pytest.mark.parametrize("model", ["models/alignx-mini", "./models/alignx-mini/", str(ROOT / "models" / "alignx-mini")])
def test_a_toy_is_called_one(model: str) -> None:
    warning = engine.toy_warning(model)
    assert warning.startswith(f"Warning: {model} is a toy")
    assert "nonsense on ordinary English" in warning
    assert "\n" not in warning


def test_no_other_model_is_warned_of() -> None:
    assert "random weights" in engine.toy_warning("models/alignx-tiny")
    assert engine.toy_warning("models/mine") is None
    assert engine.toy_warning("") is None


def test_an_engine_that_does_not_answer_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(url: str, **_: object) -> httpx.Response:
        assert url == "http://gpu/v1/models"
        if statuses[0]:
            return httpx.Response(statuses[0])
        raise httpx.ConnectError("refused")

    statuses = [200]
    monkeypatch.setattr(engine.httpx, "get", get)
    assert engine.engine_warning("http://gpu/v1/") is None
    statuses = [401]
    assert "answers 401 when asked for its models" in engine.engine_warning("http://gpu/v1")
    statuses = [0]
    assert "http://gpu/v1 does not answer (ConnectError)" in engine.engine_warning("http://gpu/v1")
    assert engine.engine_warning("profile") is None


def test_what_up_prints_says_what_runs_and_gives_a_first_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first_steps.greet(Console(highlight=False), 8080, "ax_key", "profile", "", tmp_path)
    output = capsys.readouterr().out
    assert output.endswith(f"make demo DATA={tmp_path}\n")
    assert "no language model: everything works but chat" in output
    assert "make up MODEL=path/to/checkpoint" in output
    assert "Warning" not in output
    (event,) = json.loads(re.findall(r"-d '(.*)'$", output, re.MULTILINE)[0])["events"]
    profile, _ = fold(EMPTY, INTERACTION.validate_python(event))
    assert "short and to the point" in render(profile)


def test_up_warns_of_an_engine_that_refuses_requests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"state": "degraded", "detail": "The engine refuses a test (status 400)."}
    monkeypatch.setattr(first_steps.httpx, "get", lambda *_, **__: httpx.Response(200, json={"engine": state}))
    first_steps.greet(Console(highlight=False), 8080, "ax_key", "http://gpu/v1", "", tmp_path)
    assert "Warning: The engine refuses a test (status 400)." in capsys.readouterr().out


def test_a_home_too_long_for_a_socket_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / ("long" * 25)
    with pytest.raises(typer.Exit):
        suite.up(home=home)
    assert "too long a path" in " ".join(capsys.readouterr().out.split())
    assert not home.exists()


def test_a_kept_key_is_made_anew_only_where_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            known.append(f"key-{len(known)}")
            return httpx.Response(201, json={"key": known[-1]})
        return httpx.Response(200 if request.headers["Authorization"][7:] in known[-1:] else 401)

    client = httpx.Client(transport=httpx.MockTransport(handle))
    monkeypatch.setattr(first_steps, "httpx", client)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "admin_key").write_text("admin")
    assert [first_steps.first_key(80, tmp_path) for _ in range(2)] == ["key-0", "key-0"]
    known.append("after the data were removed")
    assert [first_steps.first_key(80, tmp_path) for _ in range(2)] == ["key-2", "key-2"]


@pytest.mark.parametrize(("compiler", "flag"), [("/usr/bin/g++", None), (None, "1")])
def test_without_a_compiler_nothing_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str | None, flag: str | None
) -> None:
    (tmp_path / "secrets").mkdir()
    monkeypatch.delenv("TORCH_COMPILE_DISABLE", raising=False)
    monkeypatch.setattr(environment, "_compiler", lambda: compiler)
    variables = environment.suite_environment(tmp_path, 18000, "vllm-cpu", "models/alignx-mini")
    assert variables.get("TORCH_COMPILE_DISABLE") == flag
    assert ("--enforce-eager" in variables["ALIGNX_ENGINE_COMMAND"]) == (compiler is None)
