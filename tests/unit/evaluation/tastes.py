"""Users who take tea or coffee, and a model of a few rules that infers which and chooses by it."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evaluation.cases.cases import Case, read_cases
from evaluation.conditions import Inference, Protocol
from evaluation.models import LocalModel
from evaluation.results import Scores, Source
from evaluation.scoring.measure import Judging, measure
from evaluation.scoring.progress_bar import ProgressBar
from services.engine.judge import Likelihood
from services.prompts.build import ChatMessage
from tests.unit.evaluation.official import lines
from training.synthesis.answer_store import AnswerStore

DRINKS = ("tea", "coffee")
WAYS = ("green", "cold", "sweet", "strong", "late")


def row(user: int, size: int = 12) -> dict[str, Any]:
    """Even users take tea, odd ones coffee; a style and a topic kind by turns."""
    taken, left = DRINKS[user % 2], DRINKS[1 - user % 2]
    return {
        "userid": f"u{user}",
        "history": [
            {
                "query": f"Drink {day} of {user}?",
                "chosen": f"{WAYS[day % 5]} {taken}",
                "rejected": f"{WAYS[day % 5]} {left}",
            }
            for day in range(size)
        ],
        "target": {"query": f"Last drink of {user}?", "chosen": f"hot {taken}", "rejected": f"hot {left}"},
        "kind": ("style", "topic")[user // 2 % 2],
        "summary": f"The user likes {taken}.",
    }


def write_rows(path: Path, count: int, **changed: Any) -> Path:
    rows = (row(user) | changed for user in range(count))
    return lines(path, [{name: value for name, value in each.items() if value is not None} for each in rows])


def users(folder: Path, count: int) -> list[Case]:
    return read_cases(write_rows(folder / "users.jsonl", count), limit=None)[0]


class RuleModel:
    """A local backend (training/speed/local_engine.py) by rules, which records its calls.

    It writes which drink was chosen most often, events of the past summary included; it chooses the
    item with the drink that the summary names, and leans to the first place. `deaf` reads no summary,
    `forgetful` overlooks the past one; a call beyond `lasts` fails.
    """

    def __init__(self, *, deaf: bool = False, forgetful: bool = False, lasts: int = 1_000_000) -> None:
        self.deaf = deaf
        self.forgetful = forgetful
        self.lasts = lasts
        self.seeds: list[int] = []
        self.written: list[str] = []
        self.chosen: list[str] = []

    async def choose(
        self, messages: Sequence[ChatMessage], letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        self._spend()
        text = messages[1]["content"]
        self.chosen.append(text)
        liked = [] if self.deaf else re.findall(r"likes (\w+)", text.partition("</preferences>")[0])
        items = re.findall(r'<item letter="\w">\n(.*?)\n</item>', text)
        odds = [2.0 * any(word in item for word in liked) for item in items]
        return [odds[0] + 0.5, *odds[1:]]

    async def likelihood(
        self, messages: Sequence[ChatMessage], reply: str, *, tenant: str, priority: int = 0
    ) -> Likelihood:
        self._spend()
        system = messages[0]["content"]
        self.chosen.append(system)
        return Likelihood(-4.0 + any(word in reply for word in re.findall(r"likes (\w+)", system)), 4)

    def generate(self, prompts: Sequence[Sequence[ChatMessage]], *, seed: int, **_: Any) -> list[str]:
        self._spend()
        self.seeds.append(seed)
        self.written += [prompt[1]["content"] for prompt in prompts]
        return [self.reply(prompt[1]["content"]) for prompt in prompts]

    def reply(self, prompt: str) -> str:
        taken = Counter(re.findall(r"(?:<chosen>|\*CHOSEN ITEM BY THE USER:\*\n)\w+ (\w+)", prompt))
        if not self.forgetful:
            taken.update(5 * re.findall(r"likes (\w+)", prompt))
        if not taken:
            return "Nothing is known of the user."
        return f"<think>Counted {len(taken)}.</think>\nThe user likes {taken.most_common(1)[0][0]}."

    def token_logprobs(self, rows: Sequence[tuple[Sequence[ChatMessage], str]]) -> list[list[float]]:
        """A letter is a token; tea is likelier than coffee by the letter."""
        self._spend()
        return [[-1.0 if "tea" in reply else -1.5] * len(reply) for _, reply in rows]

    def _spend(self) -> None:
        self.lasts -= 1
        if self.lasts < 0:
            raise RuntimeError("killed")


@contextmanager
def local_model(engine: RuleModel, **options: Any) -> Iterator[LocalModel]:
    """With a store of answers in memory."""
    with AnswerStore.open(Path(":memory:")) as store:
        yield LocalModel(engine, Source(name="rules"), store, **options)


def run_setting(engine: RuleModel, cases: list[Case], setting: str, **changed: Any) -> tuple[Scores, Inference]:
    """With fields of the protocol."""
    with local_model(engine, tokens=len, batch=16) as model:
        judging = Judging(model, model, Protocol(batch=16, **changed), ProgressBar())
        return asyncio.run(measure(setting, cases, judging))
