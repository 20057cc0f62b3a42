"""The versions of transformers and TRL that training needs; importing this module checks them.

Each stage imports it before the two: another version may fail in the import itself, with an error that names
neither the cause nor the remedy.
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from packaging.specifiers import SpecifierSet

REQUIRED: Final = {"transformers": ">=5.23", "trl": "==1.16.*"}
"""As in pyproject.toml. The stages override private methods of TRL: tests/unit/training/test_private_apis.py."""


def installed_version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def unsuitable() -> str | None:
    """What is wrong with the installed versions and what to do, in one sentence."""
    for library, specifier in REQUIRED.items():
        installed = installed_version(library)
        if installed is None or not SpecifierSet(specifier).contains(installed, prereleases=True):
            needed = " ".join(f"'{name}{bounds}'" for name, bounds in REQUIRED.items())
            state = f"{library} {installed} is installed" if installed else f"{library} is not installed"
            return f"{state}, but training needs {library}{specifier}: run pip install {needed}"
    return None


if problem := unsuitable():
    print(problem, file=sys.stderr)
    raise SystemExit(2)
