"""A real Prometheus with the shipped configuration and rules, on this test run's processes.

Substituted are the targets, the token's file and the intervals; rules are as shipped but for how long
a fault must last until its alert fires.
"""

import math
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import free_port
from tests.live.suite import ROOT, wait_until_up

FOLDER = ROOT / "docker" / "prometheus"
START_S = 30.0
EVERY = "1s"


@dataclass(frozen=True)
class Sample:
    labels: Mapping[str, str]
    value: float


class Prometheus:
    """Scrapes `targets` (host:port by job) each second, as long as the context is open."""

    def __init__(self, home: Path, targets: Mapping[str, str], token: str) -> None:
        self.port = free_port()
        self._home = home
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}/api/v1", timeout=10)
        targets = {**targets, "prometheus": f"127.0.0.1:{self.port}"}
        (home / "token").write_text(token)
        (home / "prometheus.yml").write_text(yaml.safe_dump(self._config(targets)))
        (home / "rules").mkdir()
        for path in (FOLDER / "rules").glob("*.yml"):
            (home / "rules" / path.name).write_text(re.sub(r"(?m)^( +for): \w+$", rf"\1: {EVERY}", path.read_text()))

    def _config(self, targets: Mapping[str, str]) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        config["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), EVERY)
        assert {job["job_name"] for job in config["scrape_configs"]} == targets.keys()
        for job in config["scrape_configs"]:
            job.pop("dns_sd_configs", None)
            job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
            if "authorization" in job:
                job["authorization"]["credentials_file"] = str(self._home / "token")
        return config

    def __enter__(self) -> "Prometheus":
        program = shutil.which("prometheus")
        if program is None:
            pytest.fail("prometheus is missing: apt-get install --no-install-recommends prometheus")
        command = [program, "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"]
        command.append(f"--web.listen-address=127.0.0.1:{self.port}")
        with (self._home / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=self._home, stdout=log, stderr=log)
        url, written = f"http://127.0.0.1:{self.port}/-/ready", (self._home / "prometheus.log").read_text
        wait_until_up(url, self._process, START_S, written)
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()
        self._process.terminate()
        self._process.wait(30)

    def query(self, expr: str) -> list[Sample]:
        """What the query gives now. Fails where Prometheus cannot read it."""
        answer = self._http.post("/query", data={"query": expr}).json()
        assert answer["status"] == "success", f"{expr}: {answer}"
        return [Sample(row["metric"], float(row["value"][1])) for row in answer["data"]["result"]]

    def figures(self, expr: str) -> list[Sample]:
        """Those that are numbers: a quantile of nothing is none."""
        return [sample for sample in self.query(expr) if math.isfinite(sample.value)]

    def firing(self, alert: str, **labels: str) -> bool:
        matchers = "".join(f',{name}="{value}"' for name, value in labels.items())
        return bool(self.query(f'ALERTS{{alertstate="firing",alertname="{alert}"{matchers}}}'))

    def rules(self) -> list[dict[str, Any]]:
        """Every rule that was loaded, with its health."""
        groups = self._http.get("/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]
