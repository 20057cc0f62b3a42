"""The queue's operations in Redis: one Lua script each, in lua/."""

from importlib.resources import files

SCRIPTS = ("append", "claim", "beat", "commit", "edit", "fail", "forget", "publish", "rebuild", "quality", "retry")


def script_source(name: str) -> str:
    """A script with the files it includes; Redis's Lua has no modules of its own."""
    folder = files("services.preference") / "lua"
    text = (folder / f"{name}.lua").read_text()
    included = [line.removeprefix("-- include ") for line in text.splitlines() if line.startswith("-- include ")]
    return "".join((folder / part).read_text() for part in included) + text
