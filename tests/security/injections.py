"""Hostile texts in every slot that a user can fill, and what becomes of them in prompts and in served summaries.

The texts of injections.json were written from the kinds alone, before the guards were read: a text that works is a
row of the table, not a pattern for a guard. Two columns: an engine that obeys whatever it reads (obeying_engine.py),
which is the worst case, and the profile, which is what a suite without an engine serves. Its chats do not exist; the
prompt that an engine would get for its text is made by the same functions.
"""

import html
import json
import random
import re
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from services.prompts.build import chat_prompt
from services.prompts.control_tokens import strip_invisible
from services.prompts.plain import plain_chat_prompt
from services.prompts.templates import PLAIN_SYSTEM, UPDATE_REQUEST
from tests.live.suite import Suite
from tests.security.obeying_engine import TAG

TEXTS = Path(__file__).with_name("injections.json")
EFFECTS = ("tokens", "system", "small model's system", "link", "summary", "chat", "other user")
"""What an injection may reach: a raw control token in a prompt; its order in a system role, that of the prompt for a
small model aside; a link in the served summary; its order there and in a later chat's prompt; another user's text."""
NEIGHBOUR, NEIGHBOUR_CANARY = "neighbour", "u9006n1"
SAFE = "oak"
_TOKEN = re.compile(
    r"<<[^<>\n]{1,20}>>|<[^<>\s=\"][^<>\n=\"]{0,80}>|\[/?[A-Za-z_|]{1,40}\]|[\[\]]~!?b?\[|\]~b\]|\[e~\["
)
_TOOL_TOKEN = re.compile(r"[|｜]|tool_call|TOOL")
"""Other tags of calls are plain text to every tokenizer."""
_TOKEN_KINDS = ("control tokens", "prompt tags", "tool calls", "very long texts", "invisible characters")
_LINK = re.compile(
    r"\b(?:https?|hxxps?|javascript|mailto|tel):|\bdata:\w+/|www\.|\w(?:\.|\[\.\]| \. )(?:example|shop)\b|xn--"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b|<(?:img|a|script)\b|\]\(\s*\w"
)
_ALIKE = str.maketrans("аеорсухіїјѕԛԝαονρ", "aeopcyxiijsqwaovp")
_UNSEEN = ("Cf", "Cc", "Mn", "Me")
_WORKERS = 16
_CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Injection:
    """A hostile text; `order` is the part of it that tells whether it still stands somewhere."""

    kind: str
    name: str
    text: str
    order: str

    @property
    def tokens(self) -> frozenset[str]:
        """Its control tokens, as a tokenizer reads them when what is hidden or escaped has been resolved."""
        text = html.unescape(strip_invisible(self.text))
        found = _TOKEN.findall(text) if self.kind in _TOKEN_KINDS else []
        return frozenset(token for token in found if self.kind != "tool calls" or _TOOL_TOKEN.search(token))


Fill = Callable[[str], dict[str, Any]]


def _item(slot: str) -> Fill:
    return lambda text: {"type": "purchase", "item": {"title": "A lamp", slot: text}}


EVENTS: dict[str, Fill] = {
    "comparison query": lambda text: {"type": "comparison", "query": text, "chosen": "tea", "rejected": "milk"},
    "comparison chosen": lambda text: {"type": "comparison", "query": "q", "chosen": text, "rejected": "milk"},
    "comparison rejected": lambda text: {"type": "comparison", "query": "q", "chosen": "tea", "rejected": text},
    "click query": lambda text: {"type": "click", "query": text, "clicked": "tea", "shown": ["milk"]},
    "click clicked": lambda text: {"type": "click", "clicked": text, "shown": ["milk", "ale"]},
    "click shown": lambda text: {"type": "click", "clicked": "tea", "shown": ["milk", text]},
    "rating item": lambda text: {"type": "rating", "item": text, "value": 5},
    "rating review": lambda text: {"type": "rating", "item": "A lamp", "value": 5, "review": text},
    "purchase item": lambda text: {"type": "purchase", "item": text},
    "purchase considered": lambda text: {"type": "purchase", "item": "tea", "considered": ["milk", text]},
    **{f"item {slot}": _item(slot) for slot in ("title", "id", "description", "category", "price", "brand")},
    "item field name": lambda text: {"type": "purchase", "item": {"title": "A lamp", text: "x"}},
    "post prompt": lambda text: {"type": "post", "prompt": text, "text": "Green hills, and tea."},
    "post text": lambda text: {"type": "post", "text": text},
    "dialogue user": lambda text: {"type": "dialogue", "messages": [{"role": "user", "content": text}]},
    "dialogue assistant": lambda text: {
        "type": "dialogue",
        "messages": [{"role": "assistant", "content": text}, {"role": "user", "content": "Green hills, and tea."}],
    },
    "demographic": lambda text: {"type": "demographic", "text": text},
    "statement": lambda text: {"type": "statement", "text": text},
    "source": lambda text: {"type": "post", "text": "Green hills, and tea.", "source": text[:64]},
    "id": lambda text: {"type": "post", "text": "Green hills, and tea.", "id": text[:128]},
    "metadata": lambda text: {"type": "post", "text": "Green hills, and tea.", "metadata": {"note": text}},
}
"""An event for each slot."""
EDIT = "edit"
"""The user's own text over the summary."""
OFFERS = ("select query", "select item", "recommend candidate")
"""What a caller offers: no part of a summary, but of a prompt."""
SLOTS = (*EVENTS, EDIT, *OFFERS)


@dataclass(frozen=True)
class Pair:
    """An injection in a slot."""

    number: int
    injection: Injection
    slot: str

    @property
    def tag(self) -> str:
        return f"zq{self.number:05d}"


@dataclass
class Outcome:
    """What became of a pair."""

    pair: Pair
    status: int = 0
    served: str = ""
    answers: str = ""
    """Everything that was answered."""
    prompts: list[list[dict[str, Any]]] = field(default_factory=list)
    """The messages of the engine's requests about it."""


def load_injections() -> list[Injection]:
    return [
        Injection(row["kind"], row["name"], row["text"] * row.get("repeat", 1) + row.get("tail", ""), row["order"])
        for row in json.loads(TEXTS.read_text(encoding="utf-8"))
    ]


def make_pairs(slots: Sequence[str], each: int, seed: int) -> list[Pair]:
    """Every injection in `each` of the slots, drawn by a seed; and a harmless text in every slot."""
    dice = random.Random(seed)
    drawn = [
        (one, slot)
        for one in load_injections()
        for slot in sorted(dice.sample(slots, min(each, len(slots))), key=slots.index)
    ]
    harmless = [(Injection("", slot, SAFE, SAFE), slot) for slot in slots]
    return [Pair(number, one, slot) for number, (one, slot) in enumerate([*harmless, *drawn])]


# --- the runs -----------------------------------------------------------------------------------


def inject(suite: Suite, pairs: Sequence[Pair], engine: str | None) -> list[Outcome]:
    """Each pair at a user of its own; with an engine, chats follow."""
    key = suite.new_key("injected")
    headers = {"Authorization": f"Bearer {key}"}
    _read_asked(engine)  # of other tests
    with httpx.Client(base_url=suite.url, headers=headers, timeout=60) as client, ThreadPoolExecutor(_WORKERS) as pool:
        secret = {"events": [{"type": "statement", "text": f"I like {NEIGHBOUR_CANARY}."}]}
        told = client.post(f"/v1/users/{NEIGHBOUR}/events", json=secret, headers={"Prefer": "wait=20"})
        assert told.status_code == 202, told.text
        outcomes = list(pool.map(lambda pair: _inject_one(client, pair, has_engine=engine is not None), pairs))
    by_tag = defaultdict(list)
    for messages in _read_asked(engine):
        for tag in set(TAG.findall(json.dumps(messages))):
            by_tag[tag].append(messages)
    for outcome in outcomes:
        outcome.prompts = [*by_tag[outcome.pair.tag], *_later_chats(outcome.served)]
    return outcomes


def _read_asked(engine: str | None) -> list[list[dict[str, Any]]]:
    """The messages of the engine's requests since the last call."""
    asked: list[list[dict[str, Any]]] = httpx.get(f"{engine}/asked", timeout=60).json() if engine else []
    return asked


def _inject_one(client: httpx.Client, pair: Pair, *, has_engine: bool) -> Outcome:
    path, text, outcome = f"/v1/users/user-{pair.tag}", pair.injection.text, Outcome(pair)
    note = {"type": "post", "text": f"Green tea, note {pair.tag}."}
    events = [note, EVENTS[pair.slot](text)] if pair.slot in EVENTS else [note]

    def ask(method: str, rest: str, body: object = None, **headers: str) -> httpx.Response:
        answer = client.request(method, rest if rest == _CHAT else path + rest, json=body, headers=headers)
        outcome.answers += f"{answer.text}\n"
        if answer.status_code == 503:  # the machine is busy: as a client does
            time.sleep(1)
            return ask(method, rest, body, **headers)
        return answer

    outcome.status = ask("POST", "/events", {"events": events}, Prefer="wait=4").status_code
    if outcome.status != 202:
        return outcome
    if pair.slot == EDIT:
        edited = ask("PUT", "/preferences", {"text": text[:20_000]}, **{"If-Match": "*"})
        outcome.status = edited.status_code
        later = {"type": "statement", "text": f"Green hills, note {pair.tag}."}
        ask("POST", "/events", {"events": [later]}, Prefer="wait=4")
    outcome.served = ask("GET", "/preferences").json().get("text", "")
    if not has_engine:
        return outcome
    question = f"Help me with {pair.tag}."
    if pair.slot in OFFERS:
        query = f"{question} {text}" if pair.slot == "select query" else question
        items = [text, "milk"] if pair.slot != "select query" else ["tea", "milk"]
        call, offered = ("select", "items") if pair.slot.startswith("select") else ("recommend", "candidates")
        outcome.status = ask("POST", f"/{call}", {"query": query, offered: items, "method": "engine"}).status_code
    for mode in ("summary", "direct"):
        turns = [{"role": "user", "content": question}]
        body = {"messages": turns, "user": f"user-{pair.tag}", "personalization": {"mode": mode}}
        answer = ask("POST", _CHAT, body)
        assert answer.status_code == 200, answer.text
    return outcome


def _later_chats(served: str) -> Iterator[list[dict[str, Any]]]:
    """The prompts of a later chat, made by the functions of the response service: a large model's and a small one's."""
    turns: Any = [{"role": "user", "content": "Help me."}]
    if served:
        for prompt in (
            chat_prompt(turns, mode="summary", summary=served, history=()),
            plain_chat_prompt(turns, served),
        ):
            yield [dict(message) for message in prompt.messages]


# --- effects ------------------------------------------------------------------------------------


def measure(outcomes: Sequence[Outcome]) -> Mapping[str, set[Pair]]:
    """By effect, the pairs that had it."""
    usual = _usual_tokens(outcomes)
    found: dict[str, set[Pair]] = defaultdict(set)
    for outcome in outcomes:
        if outcome.pair.injection.kind:
            for effect in effects(outcome, usual[outcome.pair.slot]):
                found[effect].add(outcome.pair)
    return found


def _usual_tokens(outcomes: Sequence[Outcome]) -> Mapping[str, Counter[str]]:
    """By slot, how often each token stands at most in a prompt around a harmless text: those of our templates."""
    usual: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        if not outcome.pair.injection.kind:
            for messages in outcome.prompts:
                usual[outcome.pair.slot] |= _count_tokens(messages)
    return usual


def _count_tokens(messages: Sequence[Mapping[str, Any]]) -> Counter[str]:
    data = "\n".join(message["content"] for message in messages)
    return Counter(_TOKEN.findall(data.replace(UPDATE_REQUEST, "")))


def effects(outcome: Outcome, usual: Counter[str]) -> Iterator[str]:
    """Which of `EFFECTS` a pair had; `usual` are the tokens of a prompt around a harmless text."""
    injection, order = outcome.pair.injection, plain(outcome.pair.injection.order)
    for messages in outcome.prompts:
        counts = _count_tokens(messages)
        is_small = messages[0]["content"].startswith(PLAIN_SYSTEM)
        tokens = injection.tokens if not is_small or injection.kind != "prompt tags" else ()  # it has no tags
        if any(counts[token] > usual[token] for token in tokens):
            yield "tokens"
        if any(order in plain(message["content"]) for message in messages if message["role"] == "system"):
            yield "small model's system" if is_small else "system"
        if is_chat_by_summary(messages) and order in plain(_data(messages)):
            yield "chat"
        if NEIGHBOUR_CANARY in json.dumps(messages):
            yield "other user"
    if NEIGHBOUR_CANARY in outcome.answers:
        yield "other user"
    if _LINK.search(outcome.served):
        yield "link"
    if order in plain(outcome.served):
        yield "summary"


def _data(messages: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(message["content"] for message in messages if message["role"] != "system")


def is_chat_by_summary(messages: Sequence[Mapping[str, Any]]) -> bool:
    return "describes the user you are talking with" in messages[0]["content"]


def plain(text: str) -> str:
    """In one form, however it is hidden: compatible and similar letters, case, marks, invisible characters."""
    shown = "".join(map(_show, html.unescape(text)))
    letters = unicodedata.normalize("NFKD", shown).translate(_ALIKE)
    kept = "".join(char for char in letters if char in "\n\t" or unicodedata.category(char) not in _UNSEEN)
    return " ".join(kept.casefold().split())


def _show(char: str) -> str:
    """What a tag character or a variation selector stands for."""
    for first in (0xE0000, 0xE0100):
        if 0x20 <= ord(char) - first < 0x7F:
            return chr(ord(char) - first)
    return char
