"""Whether the answers of `make up`'s small model follow what their user asked of answers.

Each user states one wish about answers and each question is asked once for nobody and once for them. An answer follows
where it lies further in the wished direction, on the profile's own scale of that trait, than the answer for nobody; a
tie counts a half. The interval is Wilson's over all pairs.
"""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx

from bench.models.small_model import open_client, up
from bench.page import Row
from services.profile.scoring import interval
from services.profile.style_features import INDEX, words
from services.profile.style_features import measure as measure_style
from tests.conftest import free_port

QUESTIONS = (
    "How do I keep basil alive on a windowsill?",
    "What should I look at when I buy a used bicycle?",
    "Why is the sky blue?",
    "How can I sleep better?",
    "What is a good way to learn the guitar?",
    "How does a refrigerator work?",
    "What makes bread rise?",
    "How do I start running?",
    "How should I store coffee?",
    "How do vaccines work?",
)


class Wish(NamedTuple):
    says: str
    feature: str
    """Of services/profile/style_features.py."""
    sign: int


WISHES = {
    "short": Wish("I prefer short answers that get to the point.", "length", -1),
    "long": Wish("I like long, thorough answers.", "length", 1),
    "lists": Wish("Please answer with bullet lists.", "lists", 1),
    "warm": Wish("I like warm and friendly answers.", "warmth", 1),
    "formal": Wish("I prefer formal answers, without slang.", "chattiness", -1),
    "plain": Wish("Please use plain, simple words.", "scholarship", -1),
    "technical": Wish("I like technical answers for experts.", "scholarship", 1),
}


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="manner") as folder:
        home, port = Path(folder), free_port()
        with up(home, port), open_client(home, port) as client, ThreadPoolExecutor(8) as pool:
            for name, wish in WISHES.items():
                body = {"events": [{"type": "statement", "text": wish.says}]}
                client.post(f"/v1/users/{name}/events", json=body, headers={"Prefer": "wait=60"}).raise_for_status()
            asked = [(name, question) for name in ("nobody", *WISHES) for question in QUESTIONS]
            answers = dict(zip(asked, pool.map(lambda row: _ask(client, *row), asked), strict=True))
    followed = {name: [_follows(answers, name, question) for question in QUESTIONS] for name in WISHES}
    pairs = [value for values in followed.values() for value in values]
    share = sum(pairs) / len(pairs)
    low, high = (100 * bound for bound in interval(share, len(pairs)))
    rows = [
        Row(
            f"answers that follow the wish ({len(pairs)} pairs, 95 % {low:.0f} to {high:.0f})", 100 * share, "%", "≥ 70"
        )
    ]
    return rows + [Row(f"of them: {name}", 100 * sum(values) / len(values), "%") for name, values in followed.items()]


def _ask(client: httpx.Client, user: str, question: str) -> str:
    body = {"model": "alignx-small", "messages": [{"role": "user", "content": question}], "max_tokens": 400, "seed": 1}
    answer = client.post("/v1/chat/completions", json=body | ({} if user == "nobody" else {"user": user}))
    text: str = answer.raise_for_status().json()["choices"][0]["message"]["content"]
    return text


def _follows(answers: dict[tuple[str, str], str], name: str, question: str) -> float:
    wish = WISHES[name]
    own, plain = (
        measure_style(text, words(text))[INDEX[wish.feature]]
        for text in (answers[name, question], answers["nobody", question])
    )
    return 0.5 if own == plain else float(wish.sign * (own - plain) > 0)
