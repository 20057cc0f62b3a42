"""The local runner's decisions; that it runs the suite is what the live tests show."""

import importlib.util
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import typer

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
    ("told", "engine", "healthy"),
    [
        ("engine STOPPED Not started\ngateway RUNNING pid 7, uptime 0:00:09\n", "profile", True),
        ("engine STOPPED Not started\ngateway RUNNING pid 7, uptime 0:00:09\n", "vllm-cpu", False),
        ("engine RUNNING pid 8\ngateway RUNNING pid 7, uptime 0:00:09\n", "vllm-cpu", True),
        ("engine STOPPED Not started\ngateway BACKOFF Exited too quickly\n", "profile", False),
        ("", "profile", False),
    ],
)
def test_a_suite_is_healthy_when_all_that_should_run_runs(
    suite: ModuleType, told: str, engine: str, healthy: bool
) -> None:
    assert suite.healthy(told, engine) is healthy


def test_settings_make_a_running_suite_outdated_and_secrets_do_not(suite: ModuleType) -> None:
    settings = {"ALIGNX_QUEUE__BATCH_MAX_TOKENS": "8", "PATH": "/bin"}
    digest = suite.settings_digest(settings)
    for changed in ({"PATH": "/usr/bin"}, {"ALIGNX_URL": "http://a"}, {"ALIGNX_ENGINE__API_KEY": "secret"}):
        assert suite.settings_digest(settings | changed) == digest
    assert suite.settings_digest(settings | {"ALIGNX_QUEUE__BATCH_MAX_TOKENS": "9"}) != digest


@pytest.mark.parametrize(
    ("tellings", "over"),
    [
        (["engine STARTING", "engine RUNNING pid 7, uptime 0:00:09", "engine RUNNING pid 7, uptime 0:00:19"], False),
        (["engine RUNNING pid 7, uptime 0:00:09", "engine RUNNING pid 8, uptime 0:00:01"], True),
        (["engine STARTING", "engine BACKOFF Exited too quickly"], True),
    ],
)
def test_an_engine_that_ends_while_it_starts_is_noticed(suite: ModuleType, tellings: list[str], over: bool) -> None:
    seen: set[str] = set()
    assert [suite.ended(told, seen) for told in tellings][-1] is over


def test_what_stands_against_an_engine_is_said(
    suite: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite.platform, "system", lambda: "Linux")
    monkeypatch.setattr(suite.platform, "machine", lambda: "x86_64")
    assert suite.engine_obstacle(str(tmp_path), free_memory=8 << 30) is None
    assert "no checkpoint" in suite.engine_obstacle(str(tmp_path / "none"), free_memory=8 << 30)
    assert "4 GiB of free memory, here are 1.0" in suite.engine_obstacle(str(tmp_path), free_memory=1 << 30)
    monkeypatch.setattr(suite.platform, "machine", lambda: "arm64")
    assert "Linux on arm64" in suite.engine_obstacle(str(tmp_path), free_memory=8 << 30)


def test_only_a_wish_for_any_engine_is_met_by_the_profile(
    suite: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = str(tmp_path / "none")
    assert suite._engine_here(tmp_path, "auto", nowhere) == ("profile", "")
    assert "Going on with the profile" in capsys.readouterr().out
    with pytest.raises(typer.Exit):
        suite._engine_here(tmp_path, "vllm-cpu", nowhere)


def test_a_home_too_long_for_a_socket_is_refused(
    suite: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / ("long" * 25)
    with pytest.raises(typer.Exit):
        suite.up(home=home)
    assert "too long a path" in capsys.readouterr().out.replace("\n", " ")
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
    environment = suite.suite_environment(tmp_path, 18000, "vllm-cpu", suite.MINI_MODEL)
    assert environment.get("TORCH_COMPILE_DISABLE") == flag
    assert ("--enforce-eager" in environment["ALIGNX_ENGINE_COMMAND"]) == (compiler is None)
