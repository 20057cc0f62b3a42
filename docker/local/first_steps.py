"""What `make up` prints once the suite is ready: addresses, a first API key, and a first call to paste."""

import json
from pathlib import Path

from rich.console import Console

from docker.local.engine import ROOT, engine_warning, toy_warning
from docker.local.environment import GATEWAY_PORT
from docker.local.processes import LOCAL_HTTP

EVENT = {
    "type": "comparison",
    "query": "How long do I boil an egg?",
    "chosen": "Six minutes for a soft egg, ten for a hard one.",
    "rejected": "Great question! Boiling an egg is a wonderful journey, so let us take our time, look at every kind "
    "of egg, and enjoy each step together before we even think about the clock!",
}


def first_key(port: int, home: Path) -> str:
    """A key for the caller's first steps, created once, and again where the data were removed."""
    path = home / "secrets" / "user_key"
    if not path.exists() or _is_refused(port, path.read_text().strip()):
        admin = (home / "secrets" / "admin_key").read_text().strip()
        body = {"name": "first key", "tenant": "default"}
        headers = {"Authorization": f"Bearer {admin}"}
        answer = LOCAL_HTTP.post(f"{_url(port)}/admin/keys", json=body, headers=headers)
        answer.raise_for_status()
        path.touch(mode=0o600)
        path.write_text(answer.json()["key"])
    return path.read_text().strip()


def _is_refused(port: int, key: str) -> bool:
    headers = {"Authorization": f"Bearer {key}"}
    return LOCAL_HTTP.get(f"{_url(port)}/v1/quality", headers=headers).status_code == 401


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _fault_warning(port: int, engine: str) -> str | None:
    """One line on an engine that lists its models and refuses requests."""
    if not engine.startswith("http"):
        return None
    state = LOCAL_HTTP.get(f"{_url(port)}/readyz").json().get("engine") or {}
    if state.get("state") != "degraded":
        return None
    return f"Warning: {state.get('detail')}\nUntil it works, the profile serves and chat answers with an error."


def print_addresses(console: Console, port: int, key: str, engine: str, model: str, home: Path) -> None:
    url = _url(port)
    description = {
        "profile": "the profile, which is no language model: everything works but chat",
        "vllm-cpu": f"{model} on this CPU; until it is warm, the profile answers",
    }.get(engine, engine)
    lines = (
        "AlignX Serve answers.",
        f"  console   {url}/console",
        f"  API docs  {url}/docs",
        f"  API key   {key}",
        f"            (kept in {home / 'secrets' / 'user_key'})",
        f"  engine    {description}",
    )
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def print_first_calls(console: Console, port: int, key: str, engine: str, model: str, home: Path) -> None:
    url, authorization = _url(port), f"-H 'Authorization: Bearer {key}'"
    lines = (
        "\nThe first call sends what Ben chose; the second reads the summary of what he prefers:\n",
        f"curl -sw '\\n' {url}/v1/users/ben/events {authorization} -H 'Content-Type: application/json' "
        f"-H 'Prefer: wait=30' -d '{json.dumps({'events': [EVENT]})}'",
        f"curl -s '{url}/v1/users/ben/preferences?format=text' {authorization}",
    )
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
    options = (f" PORT={port}" if port != GATEWAY_PORT else "") + (f" DATA={home}" if home != ROOT / "var" else "")
    if warning := toy_warning(model) or engine_warning(engine) or _fault_warning(port, engine):
        console.print(f"\n{warning}", style="yellow", soft_wrap=True, markup=False)
    else:
        console.print(f"\nThree example users, step by step: make demo{options}", soft_wrap=True, markup=False)
