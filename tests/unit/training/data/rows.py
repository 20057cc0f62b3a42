"""Small rows in each published format, as they stand on disk."""

from typing import Any

NEUTRAL = [0.5] * 90
LEANING = [1.0, 0.0, *[0.5] * 88]


def triple(number: int, query: str = "query") -> dict[str, Any]:
    return {query: f"query {number}", "chosen": f"chosen {number}", "rejected": f"rejected {number}"}


def alignx(number: int = 0) -> dict[str, Any]:
    return {
        **triple(number, "prompt"),
        "Preference Direction": LEANING,
        "Demographic Information": f"Person {number}.",
        "User-Generated Content": [{"prompt": f"post {number}", "comment": f"comment {number}"}],
        "Pair-wise Comparative Feedback": [
            {**triple(1000 + number, "prompt"), "Preference Direction": NEUTRAL},
            triple(2000 + number, "prompt"),
        ],
    }


def alignxplore(number: int = 0) -> dict[str, Any]:
    return {
        "task": f"task {number}",
        "chosen": f"right {number}",
        "rejected": f"wrong {number}",
        "history": [triple(1000 + number), triple(2000 + number)],
    }


def sft(number: int = 0) -> dict[str, Any]:
    return {
        "prompt": [
            {"role": "system", "content": "Write a summary."},
            {"role": "user", "content": f"<query>query {number}</query><chosen>a</chosen>"},
        ],
        "completion": [{"role": "assistant", "content": f"<think>seen</think>\n\nThe user likes {number}."}],
    }


def rl(number: int = 0) -> dict[str, Any]:
    return {"uid": f"u{number}", "history": [triple(10 * number + place) for place in range(5)], "mid_position": 2}


def upi(number: int = 0) -> dict[str, Any]:
    return {"userid": f"u{number}", "history": [triple(1000 + number)], "target": triple(number)}


def behaviours(number: int = 0) -> dict[str, Any]:
    return {"uid": f"u{number}", "topic": "news", "history": [triple(10 * number + place) for place in range(9)]}


def pairs(number: int = 0) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": f"request {number}"}],
        "chosen": [{"role": "assistant", "content": f"good {number}"}],
        "rejected": [{"role": "assistant", "content": f"bad {number}"}],
    }


MAKERS = {
    "alignx": alignx,
    "alignxplore": alignxplore,
    "sft": sft,
    "rl": rl,
    "upi": upi,
    "behaviours": behaviours,
    "pairs": pairs,
}
