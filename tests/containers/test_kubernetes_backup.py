"""The nightly backup and the way back, by the pods' own scripts and a real Redis; only the folder is another."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis

from services.storage.migrations import Schema
from tests.containers.manifests import ROOT, kubectl, named, rendered
from tests.unit.services.preference.rig import AT_ONCE, opened


@pytest.fixture
def backups(redis_url: str, tmp_path: Path) -> Path:
    """The volume, with what an interrupted run left on it; Redis holds a user."""

    async def fill() -> None:
        async with opened(redis_url) as rig:
            await Schema(rig.redis).claim()
            await rig.store.claim_shards()
            await rig.put("one", "two", user="ada", tenant="acme")

    asyncio.run(fill())
    (tmp_path / "alignx-20260101T000000Z.backup.part").write_text("half")
    (tmp_path / "alignx-20260101T000000Z.backup.part.part").write_text("half")
    return tmp_path


def job_of(name: str, *variables: str) -> Any:
    """A Job as `kubectl create job --from=cronjob/NAME` makes it, and `kubectl set env` changes it."""
    spec = named(rendered("production"), "CronJob", name)["spec"]["jobTemplate"]["spec"]
    job = json.dumps({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})
    if not variables:
        return json.loads(job)
    command = [kubectl(), "set", "env", "--local", "-f", "-", "-o", "yaml", *variables]
    return yaml.safe_load(subprocess.run(command, input=job, capture_output=True, text=True, check=True).stdout)


def run(job: Any, backups: Path, redis_url: str) -> "subprocess.CompletedProcess[str]":
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (script,) = container["args"]
    told = {each["name"]: each["value"] for each in container.get("env", ())}
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "ALIGNX_REDIS__URL": redis_url,
        "ALIGNX_QUEUE__SHARDS": str(AT_ONCE["shards"]),
    }
    command = [*container["command"], script.replace("/backups", str(backups))]
    return subprocess.run(command, env=environment | told, capture_output=True, text=True, timeout=60, check=False)


def test_a_backup_leaves_itself_alone_and_comes_back(backups: Path, redis_url: str) -> None:
    done = run(job_of("backup"), backups, redis_url)
    assert done.returncode == 0, done.stderr
    (kept,) = backups.iterdir()
    assert kept.suffix == ".backup"

    refused = run(job_of("restore"), backups, redis_url)
    assert refused.returncode == 1
    assert "acme/ada" in refused.stderr
    job = job_of("restore", f"FILE={kept.name}", "OPTIONS=--tenant acme --user ada --replace")
    assert "1 replaced" in run(job, backups, redis_url).stderr

    with Redis.from_url(redis_url) as redis:
        redis.flushall()
    (backups / "alignx-20250101T000000Z.backup").write_text("an older one is not taken")
    done = run(job_of("restore"), backups, redis_url)
    assert done.returncode == 0, done.stderr
    assert "1 new" in done.stderr


def test_a_restore_starts_by_nobodys_schedule_and_is_not_repeated() -> None:
    spec = named(rendered("production"), "CronJob", "restore")["spec"]
    assert spec["suspend"] is True
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert spec["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"
