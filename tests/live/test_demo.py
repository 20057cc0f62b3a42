"""`make demo` on the real suite without a language model: what it foresees is what its examples expect."""

import sys

from examples.demo import load_plan
from tests.live.suite import Suite, run


def test_the_demo_on_the_profile_tells_what_a_person_would_agree_with(suite: Suite) -> None:
    done = run(sys.executable, "-m", "examples.demo", ALIGNX_URL=suite.url, ALIGNX_API_KEY=suite.new_key("demo"))
    users = load_plan().users
    assert done.stdout.count("-> as expected after the change: ") == 2 * len(users), done.stdout
    assert done.stdout.count("After the first part it was: ") == len(users)
    assert done.stdout.count("The chat is left out") == 1
    assert "Nothing known about this user" not in done.stdout
