"""What holds for the whole tree: a closed kernel, no heavy imports, nothing unbounded, nothing left lying.

Who may import whom is in pyproject.toml ([tool.importlinter]); these are the rules beside it.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from docs.metrics import exported
from services.preference.scripts import SCRIPTS

ROOT = Path(__file__).parents[1]
PRODUCT = sorted(path for folder in ("services", "gateway") for path in (ROOT / folder).rglob("*.py"))
LUA = sorted(path for folder in ("services", "gateway") for path in (ROOT / folder).rglob("*.lua"))

KERNEL = {
    "__init__.py": "empty",
    "answers.py": "reads what an engine answers; beside its client",
    "breaker.py": "stops asking an engine that is silent; beside its client",
    "cluster.py": "every process reads and writes Redis by it, one server or many",
    "calls.py": "the calls to an engine under way; beside its client",
    "directions.py": "preference vectors in words: response chats by them, training makes pairs of them",
    "draining.py": "every process takes its leave by it",
    "dumping.py": "the profile as bytes: the store keeps them, training and bench weigh them",
    "engine.py": "preference writes summaries with it, response answers with it, training evaluates with it",
    "errors.py": "every process raises from this tree",
    "folding.py": "an event into the fast profile: preference as it comes, training over a history",
    "health.py": "the pages of every process that say how it is; beside the app",
    "http.py": "every process is an app made here",
    "judge.py": "preference tests summaries with it, response selects with it",
    "migrations.py": "every service checks the data's version at start, and a restore checks a backup's",
    "opening.py": "every service claims the data at start, and waits for a Redis that is away",
    "profile.py": "preference writes it, response scores with it, training evaluates it",
    "meaning.py": "how near an item is in meaning to what was taken: response scores with it, training evaluates it",
    "items.py": "what an item's name, year and popularity tell the profile",
    "keys.py": "the store reads by these names, preference writes by them",
    "prompts.py": "one set of prompts for serving and training",
    "phrases": "how models refuse and announce, in many languages",
    "summary_checks.py": "whether a reply is a summary at all: for serving, and for rewards in training",
    "replies.py": "a model's reply into a summary: for serving, and for rewards in training",
    "schemas.py": "the vocabulary of all",
    "sentences.py": "the profile's own sentences read back: after a user's edit, and to score by the text alone",
    "settings.py": "every process is configured by it",
    "spans.py": "traces that are sent, with a library that is optional; tracing.py without it",
    "statements.py": "what a user says of themselves, as the profile reads it",
    "store.py": "preference and response read the same user",
    "style.py": "how a text is written, as the profile reads it",
    "templates.py": "the fixed text of the prompts; training's tokenizer holds it as tokens",
    "telemetry.py": "logs and metrics of every process",
    "tracing.py": "the trace goes with a call through every process, the engine's client included",
    "wording.py": "the profile in words: the store gives them out, response explains with them",
}
"""Why each file is in services/core. A new one needs two packages that import it, and a line here."""

VAGUE = {"utils", "util", "common", "helpers", "helper", "misc", "shared"}
HEAVY = {"torch", "transformers", "trl", "vllm", "tokenizers"}
MAX_FILE, MAX_FUNCTION = 350, 60
LONG_FILES = {
    "services/core/schemas.py": "a vocabulary: many small records, none with logic to speak of",
    "services/core/settings.py": "a catalogue: one block a resource, a sentence to each field",
}
LONG_FUNCTIONS = {"gateway/app.py:build_app": "the gateway put together, top to bottom"}

PERSONAL_LABELS = {"user", "user_id", "tenant", "tenant_id", "key", "key_id", "event_id", "request_id", "path", "query"}
BY_TENANT = {"alignx_tenant_tokens_total"}
"""The one metric with a label that the operator chooses the values of; test_telemetry holds it to them."""
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


def test_the_kernel_is_a_closed_list() -> None:
    found = {path.name for path in (ROOT / "services/core").iterdir() if path.name != "__pycache__"}
    assert found == KERNEL.keys()


def test_no_module_is_named_after_nothing() -> None:
    vague = [name(path) for path in sources() if path.suffix in (".py", ".js") and path.stem in VAGUE]
    assert vague == [], "name a module after what it holds"


def test_packages_export_nothing_of_their_own() -> None:
    assert [name(path) for path in sources() if path.name == "__init__.py" and path.read_text().strip()] == []


def test_files_are_short_enough_to_read_at_one_sitting() -> None:
    long = {name(path) for path in PRODUCT if len(path.read_text(encoding="utf-8").splitlines()) > MAX_FILE}
    assert long <= LONG_FILES.keys()


def test_functions_are_short_enough_to_see_at_once() -> None:
    long = {
        f"{name(path)}:{node.name}"
        for path in PRODUCT
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION
    }
    assert long <= LONG_FUNCTIONS.keys()


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


def test_every_lua_script_is_used() -> None:
    included = {
        part
        for path in LUA
        for part in re.findall(r"^-- include (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    loaded = {f"{script}.lua" for script in SCRIPTS}
    named = {
        Path(node.value).name
        for path in PRODUCT
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\w\.lua$", node.value)
    }
    assert {path.name for path in LUA} == included | loaded | named


# --- metrics -----------------------------------------------------------------------------------


METRICS = {metric.name: metric for job in exported().values() for metric in job.values()}


def test_metrics_are_ours_or_the_processs() -> None:
    assert [name for name in METRICS if not name.startswith(("alignx_", "process_", "python_"))] == []


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
