"""A planted secret is found, and what is accepted in this repository is not. `make supply` scans all of it."""

import json
import subprocess
from pathlib import Path

import pytest

from docker.supply.locks import ROOT
from docker.supply.secret_scan import ACCEPTED, accept, find_new, list_tracked, scan

SCANNED = ("alignx/", "docker/", "docs/how-to/", "examples/demo", "gateway/", "services/admin/", "services/storage/")
SECRETS = {
    "AlignX API Key": "curl -H 'Authorization: Bearer ax_k3y9_" + "Zr7-pQ2mW9" * 4 + "'",
    "AWS Access Key": "aws = AKIA" + "QZ7XPLM3RT5VWN2K",
    "JSON Web Token": "token: eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg",
    "Private Key": "-----BEGIN " + "PRIVATE KEY-----",
    "Secret Keyword": 'password = "' + 'correct-horse-7"',
}


def find(root: Path, accepted: str = "{}") -> list[str]:
    (root / "accepted.json").write_text(accepted)
    return find_new(scan(root, ["settings.py"]), root / "accepted.json")


@pytest.mark.parametrize("kind", SECRETS)
def test_a_planted_secret_is_found_and_not_repeated(kind: str, tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text(f"port = 8080\n{SECRETS[kind]}\n")
    found = find(tmp_path)
    assert f"settings.py:2: {kind}" in found
    assert SECRETS[kind] not in "".join(found)


def test_a_planted_secret_fails_the_command(tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text(f"{SECRETS['AlignX API Key']}\n")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "add", "settings.py"], check=True)
    assert find_new(scan(tmp_path, list_tracked(tmp_path))) == ["settings.py:1: AlignX API Key"]


def test_what_is_no_secret_passes(tmp_path: Path) -> None:
    lines = ["secretName: alignx", "key = 'ax_…'", "ax_k1_secret", "password = settings.password", "token=$TOKEN"]
    (tmp_path / "settings.py").write_text("\n".join(lines))
    assert find(tmp_path) == []


def test_an_accepted_finding_passes_and_another_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text(f"{SECRETS['Secret Keyword']}\n")
    accept(scan(tmp_path, ["settings.py"]), tmp_path / "accepted.json")
    accepted = (tmp_path / "accepted.json").read_text()
    assert find(tmp_path, accepted) == []
    (tmp_path / "settings.py").write_text(f"{SECRETS['Secret Keyword']}\n{SECRETS['Private Key']}\n")
    assert find(tmp_path, accepted) == ["settings.py:2: Private Key"]


def test_the_parts_that_hold_configuration_pass() -> None:
    files = [file for file in list_tracked(ROOT) if file.startswith(SCANNED) or "/" not in file]
    found = scan(ROOT, files)
    assert find_new(found) == []
    assert len(files) > 100
    assert {file for file, _ in found}, "what is accepted is seen"


def test_what_is_accepted_is_still_there() -> None:
    accepted = json.loads(ACCEPTED.read_text())
    assert {kind["type"] for kinds in accepted.values() for kind in kinds}.isdisjoint({"Private Key", "AWS Access Key"})
    assert sorted(accepted) == sorted(file for file in accepted if (ROOT / file).is_file())
