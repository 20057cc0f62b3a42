"""A served chat becomes an event, once, whatever is killed between the answer and the append."""

from pathlib import Path

import pytest

from alignx import AlignX, DialogueInteraction
from alignx.client.errors import ProblemError
from tests.conftest import wait_until
from tests.live.suite import SERVICES, Suite, mock_engine

pytestmark = pytest.mark.live
SAID = "I adore zephyrine pottery."


def learned(alignx: AlignX, user: str) -> list[DialogueInteraction]:
    """The chats in the user's history."""
    try:
        events = [event.interaction for event in alignx.events(user).events]
    except ProblemError as error:
        if error.code != "user_unknown":
            raise
        return []
    return [event for event in events if isinstance(event, DialogueInteraction)]


def test_a_chat_outlives_every_process(tmp_path: Path) -> None:
    with (
        mock_engine(tmp_path) as engine,
        Suite(tmp_path, {"ALIGNX_ENGINE__URL": f"{engine}/v1"}).running() as suite,
        AlignX(suite.url, suite.new_key("acme")) as alignx,
    ):
        scopes = ["chat", "events:write"]
        token, bare = [alignx.mint_token("ada", part, expires_in_s=600).token for part in (scopes, scopes[:1])]
        suite.kill("preference")  # which would append it
        turns = [{"role": "user", "content": SAID}]
        with AlignX(suite.url, bare) as browser, pytest.raises(ProblemError, match="events:write"):
            browser.chat(turns, learn=True)
        with AlignX(suite.url, token) as browser:
            answer = list(browser.stream_chat(turns, learn=True))
        for name in ("response", "redis"):
            suite.kill(name)
        for name in ("redis", "response", "preference"):
            suite.start(name)
        suite.wait_ready(SERVICES)
        (chat,) = wait_until(lambda: learned(alignx, "ada"))
        assert chat.source == "chat"
        assert [turn.content for turn in chat.messages] == [SAID, "".join(piece.text for piece in answer).strip()]
        assert "pottery" in alignx.preferences("ada").text
        suite.kill("preference")
        suite.start("preference")
        suite.wait_ready(SERVICES)
        assert len(learned(alignx, "ada")) == 1
        alignx.erase("ada")
        with pytest.raises(ProblemError) as caught:
            alignx.preferences("ada")
        assert caught.value.code == "user_unknown"
