"""The command `alignx`, also as `python -m alignx.cli`; says what to install where its extra is missing."""

import sys


def main() -> None:
    try:
        from alignx.cli.main import app
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "typer"):
            raise
        sys.exit("The command needs an extra: pip install 'alignx[cli]'")
    app()


if __name__ == "__main__":
    main()
