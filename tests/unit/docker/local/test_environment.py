"""The environment of `make up`: secrets stay with their owner, and axis adapters are loaded on request."""

import shlex
import stat
from pathlib import Path

import pytest

from docker.local.engine import axes_obstacle
from docker.local.environment import redis_server, suite_environment
from services.axes import GRID_FILE, SERVED_FILE, AxisGrid, GridPoint, ServedMerge

ROOT = Path(__file__).parents[4]


def test_secrets_are_for_their_owner_and_in_no_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docker.local.environment.redis_server", lambda _home: "redis-server")
    (tmp_path / "secrets").mkdir()
    environment = suite_environment(tmp_path, 8080, "profile", "")
    files = list((tmp_path / "secrets").iterdir())
    assert {path.name for path in files} >= {"ALIGNX_REDIS__URL", "internal_token", "admin_key", "redis.conf"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    password = (tmp_path / "secrets" / "redis.conf").read_text().removeprefix("requirepass ")
    assert len(password) > 40
    assert f":{password}@" in environment["ALIGNX_REDIS__URL"]
    settings = (ROOT / "docker" / "local" / "supervisord.conf").read_text()
    commands = [line.removeprefix("command=") for line in settings.splitlines() if line.startswith("command=")]
    named = {word for command in commands for word in shlex.split(command)}
    assert not [word for word in named if "ALIGNX_REDIS__URL" in word or "TOKEN" in word or "BOOTSTRAP" in word]
    assert "umask=077" in settings


def test_data_of_valkey_stay_with_valkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docker.local.environment.shutil.which", lambda _name: "/usr/bin/redis-server")
    base = tmp_path / "redis" / "appendonlydir" / "appendonly.aof.1.base.rdb"
    base.parent.mkdir(parents=True)
    assert redis_server(tmp_path) == "/usr/bin/redis-server"
    base.write_bytes(b"REDIS0011")
    assert redis_server(tmp_path) == "/usr/bin/redis-server"
    base.write_bytes(b"VALKEY080")
    assert Path(redis_server(tmp_path)).name == "valkey-server"


def test_axis_adapters_are_loaded_and_the_response_service_knows_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secrets").mkdir()
    monkeypatch.delenv("ALIGNX_AXES__FOLDER", raising=False)
    plain = suite_environment(tmp_path, 8080, "vllm-cpu", "models/alignx-small")
    assert "ALIGNX_AXES__FOLDER" not in plain
    assert "lora" not in plain["ALIGNX_ENGINE_COMMAND"]

    folder = tmp_path / "my grid"
    folder.mkdir()
    monkeypatch.setenv("ALIGNX_AXES__FOLDER", str(folder))
    points = tuple(GridPoint(name=f"axes-{name}", weights=(1, 0, 0)) for name in "ab")
    (folder / GRID_FILE).write_text(AxisGrid(rank=64, points=points).model_dump_json())
    axes = suite_environment(tmp_path, 8080, "vllm-cpu", "models/alignx-small")
    command = shlex.split(axes["ALIGNX_ENGINE_COMMAND"])
    assert axes["ALIGNX_AXES__FOLDER"] == str(folder)
    assert command[command.index("--max-loras") + 1] == "3"
    assert command[-2:] == [f"axes-a={folder}/axes-a", f"axes-b={folder}/axes-b"]
    assert command[: command.index("--enable-lora")] == shlex.split(plain["ALIGNX_ENGINE_COMMAND"])


def test_a_folder_without_adapters_is_refused_before_anything_starts(tmp_path: Path) -> None:
    assert axes_obstacle(None, "profile") is None
    assert "ENGINE=profile runs none" in str(axes_obstacle(tmp_path, "profile"))
    assert "holds no grid.json" in str(axes_obstacle(tmp_path, "vllm-cpu"))
    grid = AxisGrid(rank=64, points=(GridPoint(name="axes-100-0-0", weights=(1, 0, 0)),))
    (tmp_path / GRID_FILE).write_text(grid.model_dump_json())
    assert "holds no served.json" in str(axes_obstacle(tmp_path, "vllm-cpu"))
    (tmp_path / SERVED_FILE).write_text(ServedMerge(static="axes-100-0-0", routed=False).model_dump_json())
    assert axes_obstacle(tmp_path, "http://gpu-box/v1") is None
