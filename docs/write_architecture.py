"""Writes the folders and who imports whom, from the imports in the code, into docs/architecture.md.

    python -m docs.write_architecture

Of the folders that a folder imports, those that a longer way implies are left out.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from grimp import ImportGraph, build_graph

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- written by python -m docs.write_architecture -->\n", "<!-- end of the table -->\n"
PACKAGES = ("alignx", "services", "gateway", "training", "evaluation")
WHOLE = ("gateway", "training", "evaluation")
"""Packages that stand as one box, with their subfolders."""
CODE = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

Graph = Mapping[str, set[str]]


def name_module(path: Path) -> str:
    """The dotted name of a file below the root."""
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")


@cache
def import_graph() -> ImportGraph:
    """Of what runs: imports for types alone are left out."""
    return build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)


def imported_modules(path: Path) -> set[str]:
    """The project's modules that a file imports, those inside functions too; of the version in `alignx` none."""
    return import_graph().find_modules_directly_imported_by(name_module(path).removesuffix(".__init__")) - {"alignx"}


def folder_of(module: str) -> str:
    """The box of a module: its folder, or its whole package for those of `WHOLE`."""
    package, *rest = module.split(".")
    if package in WHOLE or len(rest) < 2:
        return package
    return f"{package}/{rest[0]}"


def folder_graph() -> dict[str, set[str]]:
    """Which folders each folder imports."""
    graph: dict[str, set[str]] = {}
    for path in CODE:
        here = folder_of(name_module(path))
        there = {folder_of(module) for module in imported_modules(path)}
        graph.setdefault(here, set()).update(there - {here})
    return graph


def reachable(graph: Graph, starts: Iterable[str]) -> set[str]:
    reached: set[str] = set()
    pending = list(starts)
    while pending:
        folder = pending.pop()
        if folder not in reached:
            reached.add(folder)
            pending += graph[folder]
    return reached


def reduce_graph(graph: Graph) -> dict[str, list[str]]:
    """The graph without the imports that another way implies."""
    return {
        folder: sorted(
            target for target in targets if target not in reachable(graph, (graph[folder] - {target}) - {folder})
        )
        for folder, targets in sorted(graph.items())
    }


def render_table() -> str:
    """The graph as a table, from the folders that nothing imports to those that import nothing."""
    imports = reduce_graph(folder_graph())
    notes = {"services": " (errors, settings, tracing)", "alignx": " (what users import)"}
    lines = ["", "| folder | imports |", "|---|---|"]
    for folder in reversed(tuple(TopologicalSorter(imports).static_order())):
        targets = ", ".join(f"`{target}`" for target in imports[folder])
        lines.append(f"| `{folder}`{notes.get(folder, '')} | {targets or 'nothing'} |")
    return "\n".join([*lines, "", ""])


def page() -> str:
    """docs/architecture.md with the table as the code is now."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return before + BEGIN + render_table() + END + rest.split(END)[1]


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
