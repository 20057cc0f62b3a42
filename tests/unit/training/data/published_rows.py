"""Hand-written rows of the AlignX family's files, in the published structure."""

from typing import Any

from tests.unit.training.data.rows import triple

TRUTH = {"from": "assistant", "ground_truth": {"value": "Response A"}}


def history_text(*numbers: int) -> str:
    """A history as AlignXplore writes it into "value"."""
    choices = [
        f"{place}. *Post:*\nquery {number}\n\n*Chosen:*\nchosen\n\n{number}\n\n*Rejected:*\nrejected {number}\n\n"
        for place, number in enumerate(numbers, start=1)
    ]
    return "What does the user prefer?\n\n**Comments:**\n\n" + "".join(choices)


def part(*numbers: int) -> dict[str, Any]:
    chosen = {"task": "task", "chosen": "right", "rejected": "wrong"}
    return {"from": "human", "value": history_text(*numbers), **chosen, "answer": "Response A"}


def parquet_row(number: int = 1) -> dict[str, Any]:
    """Of rl_train.parquet."""
    return {
        "data_source": "upi",
        "prompt": ["part 1", "part 2", "all"],
        "reward_model": {"style": "rule", "target1": triple(1), "target2": triple(3)},
        "extra_info": {"userid": f"u{number}", "mid_position": 1, "history": [triple(place) for place in range(4)]},
    }


def cold_start() -> dict[str, str]:
    return {"prompt": "A user asks. User: what?\nAssistant: <think>", "response": " seen </think> <answer>law</answer>"}


def psoups(chosen: str = "yes", pairs: int = 4) -> dict[str, Any]:
    """With the persona that the answers were written for."""
    pair = {"prompt": "q", "chosen": "a", "rejected": "b"}
    told = {"chosen": chosen, "ground_truth_persona": "Be brief.", "Pair-wise Comparative Feedback": [pair] * pairs}
    return pair | told
