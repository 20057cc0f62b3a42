"""The environment of `make up`: secrets stay with their owner."""

import shlex
import stat
from pathlib import Path

import pytest

from docker.local.environment import suite_environment

ROOT = Path(__file__).parents[4]


def test_secrets_are_for_their_owner_and_in_no_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docker.local.environment.redis_server", lambda: "redis-server")
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
