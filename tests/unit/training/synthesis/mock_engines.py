"""Users with plain tastes, and a teacher and a judge that answer by rules, over OpenAI's API.

A user takes the calm evening over the loud one and the drink of tea over that of coffee, by turns. To
the same prompt the teacher gives another reply each time: one about evenings, one about drinks, one that
quotes a held-out choice, one without reasoning; asked to merge, it says all that the drafts say. The
judge takes the item with a word that the summary says the user prefers, and leans to the first letter.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.unit.services.engine.fake_engine import FakeEngine, delta, sse

PAIRS = (("calm", "loud", "evening"), ("tea", "coffee", "drink"))
USAGE = {"prompt_tokens": 100, "completion_tokens": 10}
KNOWN = frozenset(("calm", "tea"))

Replier = Callable[[str, int], str]
"""The teacher's reply to a prompt that it has answered so many times before."""


def history(user: int, size: int) -> list[dict[str, str]]:
    return [
        {
            "query": f"user {user} asks for the {what} of day {day}",
            "chosen": f"a {good} {what}, plan {user} of day {day}",
            "rejected": f"a {bad} {what}, plan {user} of day {day}",
        }
        for day in range(size)
        for good, bad, what in [PAIRS[day % 2]]
    ]


def write_users(path: Path, count: int, *, size: int = 24) -> Path:
    rows = [{"uid": f"u{user}", "history": history(user, size), "mid_position": size // 2} for user in range(count)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def block(prompt: str, tag: str) -> str:
    found = re.search(rf"<{tag}>\n(.*?)\n</{tag}>", prompt, re.DOTALL)
    return found[1] if found else ""


def preferred(text: str) -> list[str]:
    return re.findall(r"The user prefers (\w+)", text)


def reply_of(*words: str, user: str = "") -> str:
    """Names the words and nothing more, so that what the judge gets right is what was said."""
    reasoning = f"What user {user} chose has {' and '.join(words)} in common."
    return f"<think>{reasoning}</think>\n" + " ".join(f"The user prefers {word}." for word in words)


def by_rules(prompt: str, earlier: int) -> str:
    user = re.findall(r"user (\d+)", prompt)[0]
    if "<draft " in prompt:
        return reply_of(*dict.fromkeys(preferred(prompt)), user=user)
    quoted = re.findall(r"<chosen>(.*?)</chosen>", block(prompt, "held_out"))[0]
    calm, tea = (reply_of(word, user=user) for word in ("calm", "tea"))
    replies = (calm, tea, f"{calm} They would take {quoted}.", "The user prefers calm.")
    return replies[earlier % len(replies)]


class MockEngines(FakeEngine):
    """Teacher and judge under one URL. `status(prompt, earlier)` says how a call goes, 200 for well."""

    def __init__(
        self,
        replier: Replier = by_rules,
        *,
        known: frozenset[str] = KNOWN,
        status: Callable[[str, int], int] = lambda *_: 200,
        logprobs: bool = True,
        finish_reason: str = "stop",
    ) -> None:
        super().__init__()
        self.replier = replier
        self.known = known
        self.status = status
        self.logprobs = logprobs
        self.finish_reason = finish_reason
        self.asked: list[str] = []
        """Every generation and choice that came in, as the bytes of its body."""
        self.answered: Counter[str] = Counter()
        self.hold_after: int | None = None
        """Calls beyond so many answers wait for as long as the mock lives."""
        self.ids = None  # letters are told by their text
        self.chat = self._on_chat

    def prompts(self, holding: str) -> list[str]:
        return [prompt for body in self.asked if holding in (prompt := _prompt(json.loads(body)))]

    async def _on_chat(self, request: web.Request) -> web.StreamResponse:
        raw = await request.text()
        body = json.loads(raw)
        prompt = _prompt(body)
        status = self.status(prompt, self.asked.count(raw))
        self.asked.append(raw)
        if status != 200:
            return web.json_response({"error": {"message": "no", "code": status}}, status=status)
        if self.hold_after is not None and self.answered.total() >= self.hold_after:
            await asyncio.Event().wait()
        earlier = self.answered[raw]
        self.answered[raw] += 1
        if body["max_tokens"] == 1:
            return web.json_response(self._letters(prompt))
        events = (delta(content=self.replier(prompt, earlier)), delta(self.finish_reason))
        return await sse(*events, {"choices": [], "usage": USAGE})(request)

    def _letters(self, prompt: str) -> dict[str, Any]:
        if not self.logprobs:
            return {"choices": [{"message": {"content": " A"}}]}
        taken = [*preferred(prompt), *re.findall(r"<chosen>a (\w+)", block(prompt, "events"))]
        words = self.known.intersection(taken)
        items = re.findall(r'<item letter="(\w)">\n(.*?)\n</item>', prompt, re.DOTALL)
        listed = [
            {"token": f" {letter}", "logprob": 0.5 * (letter == "A") + 4.0 * any(word in text for word in words) - 5}
            for letter, text in items
        ]
        return {"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}], "usage": USAGE}


def _prompt(body: dict[str, Any]) -> str:
    return "\n\n".join(message["content"] for message in body["messages"])
