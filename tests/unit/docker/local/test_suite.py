"""Which engine `make up` starts, its environment, and what it prints. That it starts is seen by running it."""

import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import httpx
import pytest
import typer
from rich.console import Console

from alignx.schemas.interactions import INTERACTION
from docker.local import engine, environment, first_steps, preparation, processes, suite
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


def test_settings_make_a_running_suite_outdated_and_what_is_the_clients_does_not() -> None:
    settings = {"ALIGNX_QUEUE__BATCH_MAX_TOKENS": "8", "PATH": "/bin"}
    digest = environment.settings_digest(settings)
    for same in ({"PATH": "/usr/bin"}, {"ALIGNX_URL": "http://a"}, {"ALIGNX_API_KEY": "a"}, {"ALIGNX_KEY_FILE": "a"}):
        assert environment.settings_digest(settings | same) == digest
    for changed in ("QUEUE__BATCH_MAX_TOKENS", "ENGINE__API_KEY", "GATEWAY__BOOTSTRAP_KEY", "INTERNAL_TOKEN"):
        assert environment.settings_digest(settings | {f"ALIGNX_{changed}": "9"}) != digest


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
        (("auto", ""), ("vllm-cpu", "models/alignx-small")),
        (("profile", ""), ("profile", "")),
        (("auto", "models/mine"), ("vllm-cpu", "models/mine")),
        (("vllm-cpu", ""), ("vllm-cpu", "models/alignx-small")),
        (("http://gpu-box:8000/v1", ""), ("http://gpu-box:8000/v1", "")),
        (("https://gpu-box/v1", "Qwen3-8B"), ("https://gpu-box/v1", "Qwen3-8B")),
    ],
)
def test_what_nothing_names_is_the_small_model(names: tuple[str, str], chosen: tuple[str, str]) -> None:
    assert engine.chosen_engine(*names) == chosen


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(engine.RefusedError, match="ENGINE=vllm is unknown"):
        engine.chosen_engine("vllm", "models/mine")


ABLE = engine.Machine("Linux", "x86_64", frozenset({"avx2", "avx512f"}), (3, 11), 8 << 30, 20 << 30)
UNABLE = (
    (replace(ABLE, flags=frozenset({"avx2"})), "AVX-512"),
    (replace(ABLE, free_memory=2 << 30), "3 GiB of free memory; 2.0 GiB are free"),
    (replace(ABLE, free_disk=1 << 30), "6 GiB of disk once; 1.0 GiB are free"),
    (replace(ABLE, system="Darwin", processor="arm64"), "this is Darwin on arm64"),
    (replace(ABLE, processor="aarch64"), "this is Linux on aarch64"),
    (replace(ABLE, python=(3, 14)), "Python 3.11 to 3.13; this is 3.14"),
)


def test_a_machine_that_can_run_vllm_is_let() -> None:
    for machine in (ABLE, replace(ABLE, python=(3, 13)), replace(ABLE, free_memory=7 << 29)):  # of 4 GiB in all
        assert engine.machine_obstacle(machine, is_installed=False) is None
    assert engine.machine_obstacle(replace(ABLE, free_disk=1 << 30), is_installed=True) is None


Started = list[tuple[str, str]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """What would have been started: engine and model. Nothing is; vLLM can run and counts as not installed."""
    started: Started = []
    monkeypatch.setattr(suite, "_start", lambda _home, _port, *names: started.append(names))
    monkeypatch.setattr(suite, "first_key", lambda *_: "ax_key")
    monkeypatch.setattr(suite, "check_socket_path", lambda _home: None)
    monkeypatch.setattr(suite, "this_machine", lambda: ABLE)
    monkeypatch.setattr(suite, "ENGINE_READY", Path("/none"))
    monkeypatch.setattr(suite, "prepare_engine", lambda *_: started.append(("prepared", "")))
    return started


@pytest.mark.parametrize(("machine", "reason"), UNABLE)
def test_a_machine_that_cannot_run_vllm_gets_the_profile_and_is_told_why(
    started: Started,
    machine: engine.Machine,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(suite, "this_machine", lambda: machine)
    suite.up(home=tmp_path / "var")
    first = capsys.readouterr().out.splitlines()[0]
    for words in (reason, "The profile answers", "make up ENGINE=http", "docker compose"):
        assert words in first
    assert started == [("profile", "")]

    for arguments in ({"engine": "vllm-cpu"}, {"model": "models/alignx-small"}):
        with pytest.raises(typer.Exit):
            suite.up(**arguments, home=tmp_path / "refused")
        assert reason in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "refused").exists()
    assert len(started) == 1


def test_the_suite_answers_before_vllm_is_prepared(
    started: Started, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite.up(home=tmp_path / "var")
    assert started == [("vllm-cpu", "models/alignx-small"), ("prepared", "")]
    output = capsys.readouterr().out
    assert "models/alignx-small on this CPU; until it is warm, the profile answers" in output


def test_axes_that_cannot_be_served_start_nothing(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALIGNX_AXES__FOLDER", str(tmp_path))
    with pytest.raises(typer.Exit):
        suite.up(home=tmp_path / "var")
    assert "holds no grid.json" in " ".join(capsys.readouterr().out.split())
    assert started == []


def test_where_vllm_cannot_be_prepared_the_suite_goes_on_with_the_profile(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise engine.RefusedError("vLLM was not installed: no network")

    monkeypatch.setattr(suite, "prepare_engine", fail)
    monkeypatch.setattr(suite, "is_running", lambda _home: True)
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "suite").write_text("profile\n")
    suite.up(home=tmp_path / "var")
    assert started == [("vllm-cpu", "models/alignx-small"), ("profile", "")]
    assert "no network\nThe suite goes on with the profile." in capsys.readouterr().out
    with pytest.raises(typer.Exit):
        suite.up(engine="vllm-cpu", home=tmp_path / "var")
    assert "no network" in capsys.readouterr().out


def test_a_suite_that_is_stopped_while_vllm_is_prepared_stays_down(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wait(_console: object, home: Path, port: int, _model: str) -> None:
        processes.wait_engine(home, port)

    monkeypatch.setattr(suite, "prepare_engine", wait)
    monkeypatch.setattr(processes, "is_engine_warm", lambda _port: False)
    with pytest.raises(typer.Exit):
        suite.up(home=tmp_path / "var")
    assert started == [("vllm-cpu", "models/alignx-small")]
    assert "`make down` has stopped the suite meanwhile." in capsys.readouterr().out


def test_many_warnings_do_not_hold_up_the_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "merge.py"
    script.write_text(  # the alarm ends it where nobody reads its errors
        "import signal, sys\nsignal.alarm(5)\nsys.stderr.write('careful\\n' * 20_000)\n"
        "print('Merged')\nsys.exit('the base is gone')"
    )
    monkeypatch.setattr(preparation, "MERGE", script)
    monkeypatch.setattr(preparation, "ENGINE_PYTHON", Path(sys.executable))
    monkeypatch.setattr(preparation, "_make", lambda *_: subprocess.CompletedProcess([], 0))
    with pytest.raises(engine.RefusedError, match=r"\Athe base is gone\Z"):
        preparation.prepare_engine(Console(), tmp_path, 8080, "models/alignx-small")
    assert "Merged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("state", "is_warm", "says"),
    [
        ("RUNNING pid 8", True, "The language model models/alignx-small answers."),
        ("RUNNING pid 8", False, "The profile answers: vLLM is starting."),
        ("STOPPED Not started", False, "The profile answers: `make up` has not started vLLM yet."),
        ("FATAL Exited", False, "The profile answers: vLLM ended."),
    ],
)
def test_the_status_says_what_the_engine_does(state: str, is_warm: bool, says: str) -> None:
    assert suite.describe_engine(f"engine {state}\n", "models/alignx-small", is_warm=is_warm).startswith(says)


def test_make_installs_no_engine_before_the_suite_answers() -> None:
    bare = {name: value for name, value in os.environ.items() if name not in ("ENGINE", "MODEL", "MAKEFLAGS")}
    command = ["make", "-C", str(ROOT), "up", "--dry-run", "-W", "docker/engine-cpu.lock"]
    planned = subprocess.run(command, env=bare, text=True, capture_output=True, check=True).stdout
    assert "docker.local.suite up" in planned
    assert ".venv-engine" not in planned


def test_a_checkpoint_or_an_adapter_is_served_and_nothing_else(tmp_path: Path) -> None:
    assert "There is no checkpoint in" in engine.model_obstacle(str(tmp_path))
    assert engine.served_folder(str(tmp_path), tmp_path / "var") == tmp_path
    (tmp_path / "adapter_config.json").write_text("{}")
    assert engine.model_obstacle(str(tmp_path)) is None
    assert engine.served_folder(str(tmp_path), tmp_path / "var") == tmp_path / "var" / "models" / tmp_path.name
    assert engine.model_obstacle("models/alignx-small") is None


@pytest.mark.parametrize("model", ["models/alignx-tiny", "./models/alignx-tiny/", str(engine.TINY_MODEL)])
def test_a_toy_is_called_one(model: str) -> None:
    warning = engine.toy_warning(model)
    assert re.fullmatch(f"Warning: {model} has random weights.* on ordinary English it writes nonsense.", warning)
    assert (engine.toy_warning("models/mine"), engine.toy_warning("")) == (None, None)


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
    console = Console(highlight=False)
    first_steps.print_addresses(console, 8080, "ax_key", "profile", "", tmp_path)
    first_steps.print_first_calls(console, 8080, "ax_key", "profile", "", tmp_path)
    output = capsys.readouterr().out
    assert output.endswith(f"make demo DATA={tmp_path}\n")
    assert "no language model: everything works but chat" in output
    assert "Warning" not in output
    (event,) = json.loads(re.findall(r"-d '(.*)'$", output, re.MULTILINE)[0])["events"]
    profile, _ = fold(EMPTY, INTERACTION.validate_python(event))
    assert "short and to the point" in render(profile)


def test_up_warns_of_an_engine_that_refuses_requests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"state": "degraded", "detail": "The engine refuses a test (status 400)."}
    for asked in (first_steps.LOCAL_HTTP, engine.httpx):
        monkeypatch.setattr(asked, "get", lambda *_, **__: httpx.Response(200, json={"engine": state}))
    first_steps.print_first_calls(Console(highlight=False), 8080, "ax_key", "http://gpu/v1", "", tmp_path)
    assert "Warning: The engine refuses a test (status 400)." in capsys.readouterr().out


def test_the_suite_is_asked_past_a_proxy() -> None:
    environment = os.environ | {"http_proxy": "http://127.0.0.1:9"}
    program = "import sys; from docker.local.processes import _answers; print(_answers(sys.argv[1]))"
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        server.timeout = 20
        answering = threading.Thread(target=server.handle_request)
        answering.start()
        command = [sys.executable, "-c", program, f"http://127.0.0.1:{server.server_port}"]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        answering.join()
    assert told.stdout.strip() == "True"


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
    monkeypatch.setattr(first_steps, "LOCAL_HTTP", client)
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
    variables = environment.suite_environment(tmp_path, 18000, "vllm-cpu", "models/alignx-small")
    assert variables.get("TORCH_COMPILE_DISABLE") == flag
    assert ("--enforce-eager" in variables["ALIGNX_ENGINE_COMMAND"]) == (compiler is None)


@pytest.mark.parametrize(("question", "steps"), [(0, ["--question"]), (1, ["--question", ""])])
def test_an_engine_of_an_older_lock_is_installed_anew(
    question: int, steps: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def make(*options: str) -> "subprocess.CompletedProcess[str]":
        asked.append(" ".join(options))
        return subprocess.CompletedProcess([], question if options else 0, "")

    monkeypatch.setattr(preparation, "_make", make)
    monkeypatch.setattr(preparation, "control", lambda *_: "engine RUNNING pid 7")
    monkeypatch.setattr(preparation, "wait_engine", lambda *_: None)
    preparation.prepare_engine(Console(), tmp_path, 1, "models/alignx-tiny")
    assert asked == steps
