"""What holds for the whole tree: small folders and files, no heavy imports, no circles, nothing left lying.

Which folder may import which is in pyproject.toml ([tool.importlinter]); these are the rules beside it.
"""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from docs.exported_metrics import exported
from docs.write_architecture import CODE, imported_modules, name_module
from services.preference.queue import SCRIPTS

ROOT = Path(__file__).parents[1]
SERVING = ("alignx", "services", "gateway")
SIZED = [*CODE, *(path for folder in ("bench", "docker", "docs", "examples") for path in (ROOT / folder).rglob("*.py"))]
PRODUCT = sorted(path for folder in SERVING for path in (ROOT / folder).rglob("*.py"))
LUA = sorted(path for folder in ("services", "gateway") for path in (ROOT / folder).rglob("*.lua"))

VAGUE = {"utils", "util", "common", "helpers", "helper", "misc", "shared"}
HEAVY = {"torch", "transformers", "trl", "vllm", "wordllama"}
MAX_FILE, MAX_FUNCTION = 350, 60
LONG_FILES = {
    "services/settings.py": "a catalogue: one block a resource, a sentence to each field",
}
MAX_FOLDER = 12
LARGE_FOLDERS = {"gateway": 15, "services/preference": 15, "training": 15}
"""Files of a folder at most, `__init__.py` aside; a folder above `MAX_FOLDER` is one whole application."""
SAME_BASENAME = 2
"""How often a basename may stand in the tree: on both sides of one wire, or for one role in two services."""
GATEWAY_CLOSURE = 33
"""Our modules that the gateway's process loads at most."""

PERSONAL_LABELS = {"user", "user_id", "tenant", "tenant_id", "key", "key_id", "event_id", "request_id", "path", "query"}
BY_TENANT = {
    "alignx_tenant_tokens_total",
    *(f"alignx_arm_{count}_total" for count in ("served", "taken", "confirmed", "thumbs")),
}
"""Metrics with a label that the operator chooses the values of; test_telemetry holds it to them."""
NOT_OURS = {"node_modules", "__pycache__", "models", "var", "build", "dist", "results"}
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|Users|work)/\w")
UNFINISHED = re.compile(r"\b(?:TO[D]O|FIX[M]E)\b")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def sources() -> Iterator[Path]:
    """The project's text files, whether or not git is there to list them."""
    pending = [path for path in ROOT.iterdir() if not path.name.startswith(".") or path.name == ".ci"]
    while pending:
        path = pending.pop()
        if path.is_dir() and path.name not in NOT_OURS and not path.name.endswith(".egg-info"):
            pending.extend(path.iterdir())
        elif path.is_file() and path.stat().st_size < 1_000_000:
            yield path


# --- files -------------------------------------------------------------------------------------


def test_a_folder_is_small_enough_to_know() -> None:
    sizes = Counter(name(path.parent) for path in SIZED if path.name != "__init__.py")
    assert {folder: size for folder, size in sizes.items() if size > LARGE_FOLDERS.get(folder, MAX_FOLDER)} == {}


def test_a_file_name_means_one_thing() -> None:
    names = Counter(path.name for path in CODE if not path.name.startswith("__"))
    assert {found: count for found, count in names.items() if count > SAME_BASENAME} == {}


def test_no_module_is_named_after_nothing() -> None:
    vague = [name(path) for path in sources() if path.suffix in (".py", ".js") and path.stem in VAGUE]
    assert vague == [], "name a module after what it holds"


def test_the_installed_package_alone_exports_names() -> None:
    exporting = [name(path) for path in sources() if path.name == "__init__.py" and path.read_text().strip()]
    assert exporting == ["alignx/__init__.py"]


def test_files_are_short_enough_to_read_at_one_sitting() -> None:
    long = {name(path) for path in SIZED if len(path.read_text(encoding="utf-8").splitlines()) > MAX_FILE}
    assert long <= LONG_FILES.keys()


def test_functions_are_short_enough_to_see_at_once() -> None:
    long = {
        f"{name(path)}:{node.name}"
        for path in SIZED
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION
    }
    assert long == set()


def test_every_module_says_what_it_is() -> None:
    mute = [name(path) for path in PRODUCT if path.name != "__init__.py" and not ast.get_docstring(tree(path))]
    assert mute == []


def test_no_path_of_one_machine_and_nothing_left_unfinished() -> None:
    found = []
    for path in sources():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{name(path)}:{number}"
            for number, line in enumerate(lines, 1)
            if MACHINE_PATH.search(line) or UNFINISHED.search(line)
        ]
    assert found == []


# --- imports and scripts -----------------------------------------------------------------------


def imported(module: ast.Module) -> Iterator[str]:
    """Top-level names of all imports, those inside functions too."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def test_what_serves_imports_no_model_library() -> None:
    assert [name(path) for path in PRODUCT if not HEAVY.isdisjoint(imported(tree(path)))] == []


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {name_module(path): imported_modules(path) for path in CODE}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_gateway_loads_little_and_nothing_of_the_profile() -> None:
    code = f"import gateway.__main__, sys; print(*(m for m in sys.modules if m.split('.')[0] in {SERVING}))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [module for module in loaded.stdout.split() if "." in module and not is_package(module)]
    assert [module for module in files if module.startswith("services.profile")] == []
    assert len(files) <= GATEWAY_CLOSURE, files


def is_package(module: str) -> bool:
    return (ROOT / module.replace(".", "/")).is_dir()


def test_every_lua_script_is_used() -> None:
    included = {
        part
        for path in LUA
        for part in re.findall(r"^-- include (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    loaded = {f"{script}.lua" for script in SCRIPTS}
    named = {
        f"{call.args[1].value}.lua"
        for path in PRODUCT
        for call in ast.walk(tree(path))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) == "read_script"
        and isinstance(call.args[1], ast.Constant)
    }
    assert {path.name for path in LUA} == included | loaded | named


# --- metrics -----------------------------------------------------------------------------------


METRICS = {metric.name: metric for job in exported().values() for metric in job.values()}


def test_metrics_are_ours_or_the_processs() -> None:
    assert [name for name in METRICS if not name.startswith(("alignx_", "gen_ai_", "process_", "python_"))] == []


def test_every_metric_named_in_the_code_is_exported_by_a_process() -> None:
    named = {
        node.value
        for path in PRODUCT
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"alignx_\w+", node.value)
    }
    assert named <= {metric.name.removesuffix("_total") for metric in METRICS.values()}


def test_every_metric_says_what_it_is() -> None:
    assert [name for name, metric in METRICS.items() if len(metric.about) < 10] == []


def test_no_label_names_a_person() -> None:
    labels = {name: set(metric.labels) for name, metric in METRICS.items()}
    assert {name for name, found in labels.items() if found & PERSONAL_LABELS} == BY_TENANT
    assert {"route", "status"} <= set().union(*labels.values())
