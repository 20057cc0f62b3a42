"""Preference optimization: the pairs and their traps, the loss against TRL's, resumption."""

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.prompts.directions import DIMENSIONS
from services.prompts.templates import CHAT_ACKNOWLEDGEMENT, CHAT_SYSTEM
from tests.unit.training.small_runs import DPO, alignx_row, losses, sft_row, write_config, write_rows
from training.checkpoint import run_dir
from training.config import load
from training.data.formats import AlignXRow, interactions
from training.data.preference_pairs import AlignXEncoder, draw_evidence, row_prompt, select_history
from training.dpo import DpoConfig, dpo
from training.exceptions import DatasetError
from training.progress import Progress

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


def row(*pairs: dict[str, Any], direction: list[float] | None = None) -> AlignXRow:
    return AlignXRow.model_validate(
        {
            "prompt": "What shall I cook?",
            "chosen": "Soup.",
            "rejected": "Nothing.",
            "Preference Direction": direction,
            "Demographic Information": "A cook.",
            "User-Generated Content": [{"prompt": "on food", "comment": "I like it hot"}],
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


def test_pba_names_the_mean_direction_and_nothing_of_the_texts():
    """.6 and above is the first label, .4 and below the second, between them nothing."""
    shown = row(
        compared(1, vector(d0=1, d1=0, d2=1, d3=0.7)),
        compared(2, vector(d0=0.2, d1=0, d2=0.1, d3=0.45)),
        direction=vector(d9=1),
    )
    messages = row_prompt(shown, "pba", **LIMITS)
    assert messages is not None
    assert messages[0] == {"role": "system", "content": CHAT_SYSTEM["pba"]}
    named = f"{DIMENSIONS[0].positive}, {DIMENSIONS[1].negative}"  # means .6, 0, .55, .575
    assert messages[1]["content"] == f"<preferences>\n{named}\n</preferences>"


def test_pba_keeps_the_most_extreme_dimension_when_all_are_neutral():
    shown = row(compared(1, vector(d4=0.55, d8=0.41)))
    messages = row_prompt(shown, "pba", **LIMITS)
    assert messages is not None
    assert DIMENSIONS[8].negative in messages[1]["content"]


def test_pba_never_names_the_directions_of_its_target():
    """They are the label: a prompt that holds them gives away which reply is the chosen one."""
    silent = row(compared(1), direction=vector(d9=1))
    assert row_prompt(silent, "pba", **LIMITS) is None
    directed = row(compared(1, vector(d0=1)), direction=vector(d0=0, d9=1))
    prompt = row_prompt(directed, "pba", **LIMITS)
    assert prompt is not None
    assert prompt[1]["content"] == f"<preferences>\n{DIMENSIONS[0].positive}\n</preferences>"


def test_pba_averages_the_directions_of_posts_and_choices():
    posted = row(compared(1, vector(d0=1, d1=1))).on_disk()
    posted["User-Generated Content"].append({"comment": "Hot!", "Preference Direction": vector(d0=0, d1=1, d2=1)})
    prompt = row_prompt(AlignXRow.model_validate(posted), "pba", **LIMITS)
    assert prompt is not None  # means .5, 1, .75
    named = f"{DIMENSIONS[1].positive}, {DIMENSIONS[2].positive}"
    assert prompt[1]["content"] == f"<preferences>\n{named}\n</preferences>"


def test_evidence_is_drawn_by_the_rows_own_texts():
    """0 to 4 posts and 0 to 4 choices a row, in their order, the same in every run and file."""
    sizes: Counter[tuple[int, int]] = Counter()
    for number in range(300):
        full = row(*(compared(10 * number + index) for index in range(6))).on_disk()
        full["User-Generated Content"] = [{"comment": f"post {number} {index}"} for index in range(6)]
        parsed = AlignXRow.model_validate(full)
        drawn = draw_evidence(parsed)
        assert drawn == draw_evidence(parsed)
        assert [pair for pair in parsed.pairs if pair in drawn.pairs] == list(drawn.pairs)
        assert [post for post in parsed.posts if post in drawn.posts] == list(drawn.posts)
        assert not drawn.demographic
        sizes[len(drawn.posts), len(drawn.pairs)] += 1
    assert set(sizes) == {(posts, pairs) for posts in range(5) for pairs in range(5) if posts or pairs}
    alone = row(compared(1))
    posts_alone = AlignXRow.model_validate({**row().on_disk(), "User-Generated Content": [{"comment": "hot"}] * 9})
    assert [*draw_evidence(alone).pairs, *draw_evidence(alone).posts]
    assert 1 <= len(draw_evidence(posts_alone).posts) <= 4


def test_a_row_that_shows_nothing_of_its_user_is_left_out_and_takes_nothing_from_the_row_before(base: Path):
    tokenizer = AutoTokenizer.from_pretrained(base)
    told = row(compared(1, vector(d0=1)), direction=vector(d0=1))
    empty = row()
    for mode, silent in (("ica", [empty]), ("pba", [empty, row(compared(2))])):
        encoder = AlignXEncoder(
            tokenizer, max_length=4000, mode=mode, shown="comparisons", max_history=16, history_tokens=4000
        )
        made = encoder.encode([told, *silent, told])
        assert len(made) == 2
        assert made[0] == made[1]


def test_both_replies_follow_the_same_prompt_and_end_their_turn(base: Path):
    tokenizer = AutoTokenizer.from_pretrained(base)
    encoder = AlignXEncoder(
        tokenizer, max_length=4000, mode="ica", shown="comparisons", max_history=16, history_tokens=4000
    )
    (made,) = encoder.encode([row(compared(1))])
    assert tokenizer.decode(made["chosen_ids"]) == "Soup.<|im_end|>"
    assert tokenizer.decode(made["rejected_ids"]) == "Nothing.<|im_end|>"
    assert tokenizer.decode(made["prompt_ids"]).endswith("What shall I cook?<|im_end|>\n<|im_start|>assistant\n")
    short = copy.copy(encoder)
    short.max_length = len(made["prompt_ids"]) + 2
    assert short.encode([row(compared(1))]) == [], "a pair too long is left out, not cut"


def test_every_row_of_the_world_makes_a_pair_in_both_modes(base: Path):
    rows = [AlignXRow.model_validate(alignx_row(number)) for number in range(10)]
    assert all(interactions(each) for each in rows)
    for mode in ("ica", "pba"):
        encoder = AlignXEncoder(
            AutoTokenizer.from_pretrained(base),
            max_length=4000,
            mode=mode,
            shown="comparisons",
            max_history=16,
            history_tokens=4000,
        )
        assert len(encoder.encode(rows)) == 10


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["ica", "pba"])
def test_a_run_learns_the_preferences(config: Path, mode: str):
    loaded = load(config, DpoConfig, [f"dpo.mode={mode}", "optim.max_steps=24", "optim.learning_rate=3e-3"])
    found = dpo(loaded)
    history = found["history"]
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


def test_an_interrupted_run_resumes_to_the_same_loss(
    tmp_path: Path, base: Path, alignx_rows: Path, monkeypatch: pytest.MonkeyPatch
):
    straight = load(write_config(tmp_path / "straight", DPO, model=base, data=alignx_rows), DpoConfig)
    dpo(straight)
    broken = load(write_config(tmp_path / "broken", DPO, model=base, data=alignx_rows), DpoConfig)

    def breaking(self: Progress, args: object, state: Any, *rest: object, **more: object) -> None:
        if state.global_step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "on_step_end", breaking)
        with pytest.raises(KeyboardInterrupt):
            dpo(broken)
    assert [path.name for path in run_dir(broken.run.output).glob("checkpoint-*")] == ["checkpoint-3"]
    dpo(broken)
    assert losses(broken.run.output) == pytest.approx(losses(straight.run.output), abs=1e-6)


def test_lora_takes_the_bare_model_as_reference(config: Path, base: Path):
    loaded = load(
        config, DpoConfig, ["model.lora.rank=4", "optim.learning_rate=0.05", "dpo.precompute_reference=false"]
    )
    history = dpo(loaded)["history"]
    assert history[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert min(entry["loss"] for entry in history) < 0.68, "the reference stays where it was"
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), loaded.run.output.with_name("out.adapter"))


def test_ready_made_pairs_train(config: Path, tmp_path: Path):
    pairs = [
        {
            "prompt": [{"role": "user", "content": f"question {number}"}],
            "chosen": [{"role": "assistant", "content": f"yes {number}"}],
            "rejected": [{"role": "assistant", "content": f"no {number}"}],
        }
        for number in range(16)
    ]
    path = write_rows(tmp_path / "pairs.jsonl", pairs)
    loaded = load(config, DpoConfig, ["dpo.mode=pairs", f"data.train=['{path}']"])
    assert dpo(loaded)["rows"] == 16


def test_rows_of_another_kind_are_told(config: Path, tmp_path: Path):
    path = write_rows(tmp_path / "sft.jsonl", [sft_row(number) for number in range(4)])
    with pytest.raises(DatasetError, match="AlignXplore"):
        dpo(load(config, DpoConfig, [f"data.train=['{path}']"]))


def test_the_metrics_tell_what_the_report_reads(config: Path):
    loaded = load(config, DpoConfig, ["optim.max_steps=2"])
    dpo(loaded)
    written = json.loads((run_dir(loaded.run.output) / "metrics.json").read_text())
    assert {"stage", "config", "history", "tokens_per_second", "seconds", "rows"} <= written.keys()
    assert {"step", "loss", "rewards/accuracies", "rewards/margins"} <= written["history"][0].keys()
