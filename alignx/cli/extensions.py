"""Commands that other packages add to `alignx`: entry points of the group "alignx.commands".

    [project.entry-points."alignx.commands"]
    eval = "evaluation.__main__:main [training]"

Such an entry point names a function `main(arguments, *, prog)` that reads its options itself, `--help`
among them. It is loaded when its command is called: `alignx` starts as fast without it, and works where
what the command needs is not installed.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from typer.core import TyperCommand

from alignx.cli.terminal import ProblemGroup
from alignx.client.errors import ClientError

GROUP = "alignx.commands"


def found() -> dict[str, EntryPoint]:
    """By name of the command."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


class ExtendedGroup(ProblemGroup):
    """Its own commands first; no extension can replace one of them."""

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return [*own, *sorted(found().keys() - set(own))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in (extensions := found()):
            return own
        return Extension(extensions[cmd_name])


class Extension(TyperCommand):
    """A command that hands all its arguments on."""

    def __init__(self, entry: EntryPoint) -> None:
        super().__init__(entry.name, help=f"The same as python -m {entry.module}.")
        self.entry = entry

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return []

    def invoke(self, ctx: Any) -> Any:
        """Raises ClientError where a package is missing, and SystemExit as the function does."""
        try:
            return self.entry.load()(ctx.args, prog=ctx.command_path)
        except ModuleNotFoundError as error:
            raise ClientError(
                f"alignx {self.entry.name} needs the package {error.name}, which is not installed{self._remedy()}"
            ) from error

    def _remedy(self) -> str:
        if self.entry.dist is None or not self.entry.extras:
            return ""
        return f": pip install '{self.entry.dist.name}[{','.join(self.entry.extras)}]'"
