"""Preference optimization: the pairs and their traps, the loss against TRL's, resumption."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.prompts.directions import DIMENSIONS
from services.prompts.templates import CHAT_ACKNOWLEDGEMENT, CHAT_SYSTEM
from tests.unit.training.small_runs import DPO, losses, write_config
from training.checkpoint import run_dir
from training.config import load
from training.data.formats import AlignXRow, Post
from training.data.preference_pairs import AlignXEncoder, Mode, draw_evidence, row_prompt, select_history
from training.dpo import DpoConfig, dpo

pytestmark = pytest.mark.filterwarnings("ignore")  # of TRL and transformers about their own futures


@pytest.fixture
def config(tmp_path: Path, base: Path, alignx_rows: Path) -> Path:
    return write_config(tmp_path, DPO, model=base, data=alignx_rows)


def vector(**values: float) -> list[float]:
    """0.5 everywhere but at the named places: d0=1, d7=0.2."""
    found = [0.5] * len(DIMENSIONS)
    for name, value in values.items():
        found[int(name[1:])] = value
    return found


def compared(number: int, direction: list[float] | None = None) -> dict[str, Any]:
    pair: dict[str, Any] = {"prompt": f"question {number}", "chosen": f"good {number}", "rejected": f"bad {number}"}
    return pair | ({"Preference Direction": direction} if direction else {})


def row(*pairs: dict[str, Any], direction: list[float] | None = None, post: list[float] | None = None) -> AlignXRow:
    return AlignXRow.model_validate(
        {
            "prompt": "What shall I cook?",
            "chosen": "Soup.",
            "rejected": "Nothing.",
            "Preference Direction": direction,
            "Demographic Information": "A cook.",
            "User-Generated Content": [{"prompt": "on food", "comment": "I like it hot", "Preference Direction": post}],
            "Pair-wise Comparative Feedback": list(pairs),
        }
    )


LIMITS: dict[str, Any] = {"shown": "comparisons", "most": 16, "tokens": 4000}


# --- what the prompt of a pair says --------------------------------------------------------------


def test_ica_shows_the_choices_as_served():
    shown = row(compared(1), compared(2))
    assert row_prompt(shown, "ica", **LIMITS) == [
        {"role": "system", "content": CHAT_SYSTEM["ica"]},
        {
            "role": "user",
            "content": "<events>\n"
            '<event n="1" type="comparison">\n<query>question 1</query>\n<chosen>good 1</chosen>\n'
            "<rejected>bad 1</rejected>\n</event>\n"
            '<event n="2" type="comparison">\n<query>question 2</query>\n<chosen>good 2</chosen>\n'
            "<rejected>bad 2</rejected>\n</event>\n"
            "</events>",
        },
        {"role": "assistant", "content": CHAT_ACKNOWLEDGEMENT},
        {"role": "user", "content": "What shall I cook?"},
    ]


def test_ica_shows_description_and_posts_when_told_to():
    assert [event.type for event in select_history(row(compared(1)), shown="all", most=9, tokens=4000)] == [
        "demographic",
        "post",
        "comparison",
    ]


def test_ica_drops_the_oldest_and_keeps_the_instruction():
    many = row(*(compared(number) for number in range(40)))
    assert [event.query for event in select_history(many, shown="comparisons", most=3, tokens=4000)] == [
        "question 37",
        "question 38",
        "question 39",
    ]
    few = select_history(many, shown="comparisons", most=40, tokens=100)
    assert 0 < len(few) < 5
    assert few[-1].query == "question 39"


PBA: dict[str, tuple[AlignXRow, str | None]] = {
    "means of .6 and above are the first label, of .4 and below the second": (
        row(  # means .6, 0, .55, .575
            compared(1, vector(d0=1, d1=0, d2=1, d3=0.7)),
            compared(2, vector(d0=0.2, d1=0, d2=0.1, d3=0.45)),
            direction=vector(d9=1),
        ),
        f"{DIMENSIONS[0].positive}, {DIMENSIONS[1].negative}",
    ),
    "the most extreme where all are neutral": (row(compared(1, vector(d4=0.55, d8=0.41))), DIMENSIONS[8].negative),
    # Those of the target are the label: a prompt that holds them gives away which reply is the chosen one.
    "none of the target alone": (row(compared(1), direction=vector(d9=1)), None),
    "none of the target beside others": (
        row(compared(1, vector(d0=1)), direction=vector(d0=0, d9=1)),
        DIMENSIONS[0].positive,
    ),
    "of posts and choices together": (
        row(compared(1, vector(d0=1, d1=1)), post=vector(d0=0, d1=1, d2=1)),  # means .5, 1, .75
        f"{DIMENSIONS[1].positive}, {DIMENSIONS[2].positive}",
    ),
}


@pytest.mark.parametrize("case", PBA)
def test_pba_names_directions_and_nothing_of_the_texts(case: str):
    shown, named = PBA[case]
    messages = row_prompt(shown, "pba", **LIMITS)
    wanted = [
        {"role": "system", "content": CHAT_SYSTEM["pba"]},
        {"role": "user", "content": f"<preferences>\n{named}\n</preferences>"},
    ]
    assert (messages and messages[:2]) == (wanted if named else None)


def test_evidence_is_drawn_by_the_rows_own_texts():
    """0 to 4 posts and 0 to 4 choices a row, in their order, the same in every run and file."""
    sizes: Counter[tuple[int, int]] = Counter()
    for number in range(300):
        posts = tuple(Post(comment=f"post {number} {index}") for index in range(6))
        pairs = (compared(10 * number + index) for index in range(6))
        parsed = row(*pairs).model_copy(update={"posts": posts})
        drawn = draw_evidence(parsed)
        assert drawn == draw_evidence(parsed)
        assert [pair for pair in parsed.pairs if pair in drawn.pairs] == list(drawn.pairs)
        assert [post for post in parsed.posts if post in drawn.posts] == list(drawn.posts)
        assert not drawn.demographic
        sizes[len(drawn.posts), len(drawn.pairs)] += 1
    assert set(sizes) == {(posts, pairs) for posts in range(5) for pairs in range(5) if posts or pairs}
    alone = row(compared(1))
    posts_alone = row().model_copy(update={"posts": (Post(comment="hot"),) * 9})
    assert [*draw_evidence(alone).pairs, *draw_evidence(alone).posts]
    assert 1 <= len(draw_evidence(posts_alone).posts) <= 4


def encoder(base: Path, mode: Mode, max_length: int = 4000) -> AlignXEncoder:
    tokenizer, limits = AutoTokenizer.from_pretrained(base), {"max_history": 16, "history_tokens": 4000}
    return AlignXEncoder(tokenizer, max_length=max_length, mode=mode, shown="comparisons", **limits)


def test_a_row_that_shows_nothing_of_its_user_is_left_out_and_takes_nothing_from_the_row_before(base: Path):
    told = row(compared(1, vector(d0=1)), direction=vector(d0=1))
    empty = row()
    modes: list[tuple[Mode, list[AlignXRow]]] = [("ica", [empty]), ("pba", [empty, row(compared(2))])]
    for mode, silent in modes:
        made = encoder(base, mode).encode([told, *silent, told])
        assert len(made) == 2
        assert made[0] == made[1]


def test_both_replies_follow_the_same_prompt_and_end_their_turn(base: Path):
    whole = encoder(base, "ica")
    (made,) = whole.encode([row(compared(1))])
    assert whole.tokenizer.decode(made["chosen_ids"]) == "Soup.<|im_end|>"
    assert whole.tokenizer.decode(made["rejected_ids"]) == "Nothing.<|im_end|>"
    prompt = whole.tokenizer.decode(made["prompt_ids"])
    assert prompt.endswith("What shall I cook?<|im_end|>\n<|im_start|>assistant\n")
    short = encoder(base, "ica", max_length=len(made["prompt_ids"]) + 2)
    assert short.encode([row(compared(1))]) == [], "a pair too long is left out, not cut"


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["ica", "pba"])
def test_a_run_learns_the_preferences(config: Path, mode: str):
    loaded = load(config, DpoConfig, [f"dpo.mode={mode}", "optim.max_steps=24", "optim.learning_rate=3e-3"])
    found = dpo(loaded)
    assert found["rows"] == 32, "every row of the world makes a pair"
    assert found == json.loads((run_dir(loaded.run.output) / "metrics.json").read_text())
    history = found["history"]
    assert "rewards/margins" in history[0]
    assert history[0]["loss"] == pytest.approx(0.6931, abs=1e-3), "log 2, as nothing has been learned"
    assert history[-1]["loss"] < 0.5
    assert history[-1]["rewards/accuracies"] > 0.8
    AutoModelForCausalLM.from_pretrained(loaded.run.output)
    assert "Direct preference optimization" in (loaded.run.output / "README.md").read_text()


def test_the_loss_is_trls_with_and_without_what_makes_it_faster(tmp_path: Path, base: Path, alignx_rows: Path):
    # TRL's way is slow, so these are few.
    small = ("optim.max_steps=4", "optim.batch=4", "optim.micro_batch=2", "data.limit=8", "optim.learning_rate=3e-3")

    def run(name: str, *overrides: str) -> list[float]:
        config = write_config(tmp_path / name, DPO, model=base, data=alignx_rows)
        loaded = load(config, DpoConfig, [*overrides, *small])
        dpo(loaded)
        return losses(loaded.run.output)

    plain = run("plain", "dpo.share_prompts=false", "dpo.precompute_reference=false")
    assert plain[-1] < plain[0]
    assert run("fast") == pytest.approx(plain, abs=1e-4)
    assert run("shared", "dpo.precompute_reference=false") == pytest.approx(plain, abs=1e-4)
    assert run("asked-once", "dpo.share_prompts=false") == pytest.approx(plain, abs=1e-4)


def test_lora_takes_the_bare_model_as_reference(config: Path, base: Path):
    loaded = load(
        config, DpoConfig, ["model.lora.rank=4", "optim.learning_rate=0.05", "dpo.precompute_reference=false"]
    )
    history = dpo(loaded)["history"]
    assert history[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert min(entry["loss"] for entry in history) < 0.68, "the reference stays where it was"
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), loaded.run.output.with_name("out.adapter"))
