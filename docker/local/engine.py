"""Which engine `make up` starts: what was requested, why it cannot run here, and what it is no good for."""

import os
import platform
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
NO_MODEL = Path(__file__).with_name("no_model.txt")
"""The message where vLLM is requested without a checkpoint; the Makefile prints it as well."""
MINI_MODEL = ROOT / "models" / "alignx-mini"
TINY_MODEL = ROOT / "models" / "alignx-tiny"
TOYS = {
    MINI_MODEL: "is a toy of 3 million parameters: it knows a small synthetic world and writes nonsense on ordinary "
    "English.",
    TINY_MODEL: "has random weights: it is for tests of the wire, and whatever it writes is nonsense.",
}
ENGINE_MEMORY = 4 << 30
"""Free memory, in bytes, that vLLM with the small model and its cache of keys and values needs."""


class RefusedError(Exception):
    """The request cannot be carried out; the message says why and what can."""


def chosen_engine(engine: str, model: str) -> tuple[str, str]:
    """Engine and model for a request: no engine serves a checkpoint that is not named. Raises RefusedError."""
    if engine == "auto":
        engine = "vllm-cpu" if model else "profile"
    if engine == "profile":
        return engine, ""
    if engine == "vllm-cpu" and not model:
        raise RefusedError(NO_MODEL.read_text().rstrip())
    if engine != "vllm-cpu" and not engine.startswith(("http://", "https://")):
        raise RefusedError(f"ENGINE={engine} is unknown: it may be auto, profile, vllm-cpu or a URL.")
    return engine, model


def engine_obstacle(model: str, *, free_memory: int) -> str | None:
    """Why vLLM cannot run `model` on this machine, as far as one can know before trying."""
    folder = _folder(model)
    if not (folder / "config.json").is_file() and folder != TINY_MODEL:  # which make makes
        return f"There is no checkpoint in {model}: MODEL names a folder in the Hugging Face format, with config.json."
    if (system := (platform.system(), platform.machine())) != ("Linux", "x86_64"):
        return f"vLLM has no CPU build for {' on '.join(system)}."
    if free_memory < ENGINE_MEMORY:
        return (
            f"vLLM needs {ENGINE_MEMORY >> 30} GiB of free memory; this machine has {free_memory / (1 << 30):.1f} GiB."
        )
    return None


def is_mini(model: str) -> bool:
    return _folder(model) == MINI_MODEL


def toy_warning(model: str) -> str | None:
    """One line on a checkpoint of the project's own that is no use on ordinary English."""
    reason = TOYS.get(_folder(model)) if model else None
    return reason and f"Warning: {model} {reason}"


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


def _folder(model: str) -> Path:
    return (ROOT / model).resolve()  # an absolute path stays what it is
