"""The package as a user gets it: the wheel in an environment of its own, beside the user's own `services` folder."""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("alignx", "services", "gateway", "training", "evaluation")
USERS_FOLDERS = ("services", "gateway", "training")

APP = """
import services
from alignx import AlignX, ClickInteraction, ClientError


def read_summary(user: str) -> str:
    try:
        with AlignX("http://127.0.0.1:9", "ax_k1_secret") as alignx:
            alignx.append(user, [ClickInteraction(clicked="Tram lines", shown=("Tram lines", "Derby"))], wait=10)
            return alignx.preferences(user).text
    except ClientError as error:
        return f"{services.OWNER}: {error}"


print(read_summary("ada"))
"""
WRONG_APP = """
from alignx import AlignX

number: int = AlignX().preferences("ada").text
AlignX().append(events=[])
"""
INSTALLED = """
import json
from importlib.metadata import distributions, requires

direct = [line for line in requires("alignx") if "extra ==" not in line]
print(json.dumps([direct, sorted(found.name.lower() for found in distributions())]))
"""


@dataclass
class Installation:
    wheel: Path
    python: Path
    folder: Path
    """The user's project."""

    def run(self, *command: str | Path) -> str:
        return run(*command, cwd=self.folder)


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Standard output of a program that sees what is installed for it, and no folder of the tests' environment."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*arguments: str | Path) -> None:
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Built from a copy, because a build leaves folders behind that the next one would pack."""
    folder = tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / "tree" / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "tree")
    pip("wheel", "--no-deps", "--wheel-dir", folder, folder / "tree")
    (wheel,) = folder.glob("*.whl")
    python = folder / "venv" / "bin" / "python"
    venv.create(folder / "venv")
    pip("--python", python, "install", wheel)
    for name in USERS_FOLDERS:
        (folder / "app" / name).mkdir(parents=True)
        (folder / "app" / name / "__init__.py").write_text('OWNER = "the user"\n')
    (folder / "app" / "app.py").write_text(APP)
    (folder / "app" / "wrong.py").write_text(WRONG_APP)
    return Installation(wheel, python, folder / "app")


def test_the_wheel_holds_alignx_alone_and_its_types(installation: Installation) -> None:
    names = zipfile.ZipFile(installation.wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"alignx"}
    assert "alignx/py.typed" in names


def test_it_brings_an_http_client_and_no_server(installation: Installation) -> None:
    direct, installed = json.loads(installation.run(installation.python, "-c", INSTALLED))
    assert len(direct) <= 4, direct
    assert "httpx" in installed
    assert not {"fastapi", "redis", "uvicorn", "torch"} & set(installed)


def test_the_users_own_folders_stay_theirs(installation: Installation) -> None:
    said = installation.run(installation.python, "app.py")
    assert said.startswith("the user: http://127.0.0.1:9 cannot be reached")


def test_the_types_of_the_package_check_the_users_code(installation: Installation) -> None:
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", installation.python]
    assert "no issues found" in installation.run(*mypy, "app.py")
    with pytest.raises(AssertionError, match=r"(?s)Incompatible types in assignment.*Too few arguments"):
        installation.run(*mypy, "wrong.py")


def test_the_extra_brings_the_command(installation: Installation) -> None:
    command = installation.python.with_name("alignx")
    with pytest.raises(AssertionError, match=r"^The command needs an extra: pip install 'alignx\[cli\]'\n"):
        installation.run(command, "--help")
    pip("--python", installation.python, "install", f"{installation.wheel}[cli]")
    assert "ingest" in installation.run(command, "--help")
