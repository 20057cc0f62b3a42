"""`make demo` on the real suite without a language model: what it foresees is what its examples expect."""

import os
import subprocess
import sys

from examples.demo import load_plan
from tests.live.suite import ROOT, Suite


def test_the_demo_on_the_profile_tells_what_a_person_would_agree_with(suite: Suite) -> None:
    environment = {**os.environ, "ALIGNX_URL": suite.url, "ALIGNX_API_KEY": suite.new_key("demo")}
    command = [sys.executable, "-m", "examples.demo"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    users = load_plan().users
    assert done.stdout.count("-> as expected after the change: ") == 2 * len(users), done.stdout
    assert done.stdout.count("After the first part it was: ") == len(users)
    assert done.stdout.count("The chat is left out") == 1
    assert "Nothing known about this user" not in done.stdout
