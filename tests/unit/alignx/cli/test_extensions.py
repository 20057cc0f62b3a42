"""Commands of other packages: listed, called with all their arguments, and told apart from broken installs."""

import sys
import tomllib
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from alignx.cli import extensions
from alignx.cli.main import app

PYPROJECT = Path(__file__).parents[4] / "pyproject.toml"
called: list[tuple[Sequence[str], str]] = []


def main(arguments: Sequence[str], *, prog: str) -> None:
    called.append((list(arguments), prog))


def refusing(arguments: Sequence[str], *, prog: str) -> None:
    raise SystemExit(3)


def lacking(arguments: Sequence[str], *, prog: str) -> None:
    import_module("a_package_nobody_has")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """This module's functions as entry points of an installed distribution."""
    monkeypatch.setitem(sys.modules, "extension_of_tests", sys.modules[__name__])
    dist = metadata.distribution("alignx-serve")
    values = {"tell": "main", "refuse": "refusing", "lack": "lacking [training]", "absent": "x", "show": "main"}
    entries = []
    for name, function in values.items():
        module = "a_package_nobody_has" if name == "absent" else "extension_of_tests"
        entry = metadata.EntryPoint(name, f"{module}:{function}", extensions.GROUP)
        vars(entry)["dist"] = dist
        entries.append(entry)
    monkeypatch.setattr(extensions, "entry_points", lambda *, group: entries if group == extensions.GROUP else [])
    called.clear()


def alignx(*args: str) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, args, prog_name="alignx")


@pytest.mark.usefixtures("registered")
def test_a_command_gets_all_its_arguments_as_they_are() -> None:
    assert alignx("tell", "--out", "x", "a b", "--help", "-v", "--", "--x").exit_code == 0
    assert called == [(["--out", "x", "a b", "--help", "-v", "--", "--x"], "alignx tell")]


@pytest.mark.usefixtures("registered")
def test_it_is_listed_without_being_loaded() -> None:
    shown = alignx("--help").stdout
    assert "tell" in shown
    assert "The same as python -m extension_of_tests." in shown
    assert "absent" in shown, "its module does not even exist"


@pytest.mark.usefixtures("registered")
def test_its_exit_code_is_that_of_alignx() -> None:
    assert alignx("refuse").exit_code == 3


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(("command", "remedy"), [("lack", ": pip install 'alignx-serve[training]'"), ("absent", "")])
def test_a_missing_package_is_named_with_what_brings_it(command: str, remedy: str) -> None:
    result = alignx(command)
    assert result.exit_code == 1
    sentence = f"error: alignx {command} needs the package a_package_nobody_has, which is not installed{remedy}"
    assert result.stderr.strip() == sentence


@pytest.mark.usefixtures("registered")
def test_no_extension_replaces_a_command_of_its_own() -> None:
    assert alignx("--help").stdout.count("\n  show ") == 1
    alignx("show", "--help")
    assert called == []


def test_eval_is_registered_and_needs_the_training_extra() -> None:
    declared = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    value = declared["entry-points"][extensions.GROUP]["eval"]
    entry = metadata.EntryPoint("eval", value, extensions.GROUP)
    assert (entry.module, entry.attr) == ("evaluation.__main__", "main")
    assert set(entry.extras) <= declared["optional-dependencies"].keys()
    assert (PYPROJECT.parent / "evaluation" / "__main__.py").is_file()


def test_a_command_that_nobody_has_is_wrong_usage() -> None:
    assert alignx("nonsense").exit_code == 2
