"""Alignment accuracy by hand, by rules, and against transformers itself."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evaluation.cases.pairs import read_pairs
from evaluation.models import Likelihood, Messages, Placement, load_local
from evaluation.results import AlignmentScores, Source
from evaluation.scoring.alignment import Likelihoods, compute_likelihoods, flatten_pairs, score_alignment
from tests.unit.evaluation.official import lines
from tests.unit.evaluation.tastes import RuleModel, local_model
from tests.unit.training.nano import write_nano
from training.exceptions import DatasetError
from training.synthesis.answer_store import AnswerStore

REPLIES = (("hot tea", "coffee"), ("a cup of tea", "a mug"), ("cold coffee", "warm tea, and much of it"))


def write_pairs(path: Path) -> Path:
    rows = [
        {
            "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Drink {place}?"}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for place, (chosen, rejected) in enumerate(REPLIES)
    ]
    return lines(path, rows)


def score_step(policy: Likelihoods, reference: Likelihoods, path: Path) -> AlignmentScores:
    return score_alignment(policy, reference, data=path, reference_source=Source(name="base"), seed=0, started=0.0)


def pair(chosen: float, rejected: float, lengths: tuple[int, int] = (1, 1)) -> tuple[Likelihood, Likelihood]:
    return Likelihood(chosen, lengths[0]), Likelihood(rejected, lengths[1])


def test_the_accuracy_is_about_the_step_from_the_reference(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "pairs.jsonl")
    policy = [pair(-9, -5), pair(-4, -5), pair(-7, -7), pair(-1, -2)]
    reference = [pair(-9, -4), pair(-3, -5), pair(-7, -7), pair(-9, -9)]
    found = score_step(policy, reference, path)
    assert found.alignment.mean == (1 + 0 + 0.5 + 1) / 4, "a step forward counts, also where rejected stays likelier"
    assert found.policy_prefers.mean == (0 + 1 + 0.5 + 1) / 4
    assert found.reference_prefers.mean == (0 + 1 + 0.5 + 0.5) / 4
    assert found.gain.mean == 0.125
    assert found.data.sha256 is not None


def test_the_reference_itself_scores_one_half(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "pairs.jsonl")
    with local_model(RuleModel(lasts=3), batch=2) as model:
        policy, reference = (compute_likelihoods(model, read_pairs(path, None, None), lambda _: None) for _ in range(2))
        assert model.needed == 12, "what is kept is not scored again"
    found = score_step(policy, reference, path)
    assert (found.alignment.mean, found.alignment.low, found.alignment.high) == (0.5, 0.5, 0.5)
    assert found.gain.mean == 0


def test_length_decides_the_sum_and_not_the_mean(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "pairs.jsonl")
    with local_model(RuleModel(), batch=2) as model:
        likelihoods = compute_likelihoods(model, read_pairs(path, None, 2), lambda _: None)
    even = [(Likelihood(-1.0, 1), Likelihood(-1.0, 1))] * 2
    found = score_step(likelihoods, even, path)
    assert found.gain.mean == pytest.approx((1 + 0) / 2 - 0.5), "tea -7, coffee -9; -12, -7.5"
    assert found.gain_by_token.mean == pytest.approx((1 + 1) / 2 - 0.5)


def test_pairs_are_limited_and_checked(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "pairs.jsonl")
    assert len(read_pairs(path, None, 2)) == 2
    assert flatten_pairs(read_pairs(path, None, None))[1] == (
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Drink 0?"}],
        "coffee",
    )
    path.write_text(json.dumps({"userid": "u", "history": [], "target": {}}))
    with pytest.raises(DatasetError, match="looks like UPI rows"):
        read_pairs(path, None, None)


def summed(folder: Path, rows: list[tuple[Messages, str]]) -> list[Likelihood]:
    """Each row by a forward of its own, in transformers alone."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    found = []
    for messages, reply in rows:
        head = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, enable_thinking=False, return_dict=True
        )["input_ids"]
        tail = tokenizer.encode(reply, add_special_tokens=False)
        with torch.no_grad():
            logprobs = model(torch.tensor([head + tail])).logits[0].log_softmax(-1)
        total = sum(logprobs[len(head) - 1 + place, token].item() for place, token in enumerate(tail))
        found.append(Likelihood(total, len(tail)))
    return found


def test_the_accuracy_is_that_of_transformers(tmp_path: Path) -> None:
    """Likelihoods of policy and reference to 1e-3, and what is made of them."""
    path = write_pairs(tmp_path / "pairs.jsonl")
    pairs, found, direct = read_pairs(path, None, None), [], []
    with AnswerStore.open(tmp_path / "answers.sqlite") as store:
        for seed in (1, 2):
            folder = write_nano(tmp_path / f"nano-{seed}", hidden=16, seed=seed, spread=0.2)
            found.append(compute_likelihoods(load_local(str(folder), store, Placement()), pairs, lambda _: None))
            direct.append(summed(folder, flatten_pairs(pairs)))
    for own, singles in zip(found, direct, strict=True):
        for likelihood, single in zip([each for both in own for each in both], singles, strict=True):
            assert likelihood.tokens == single.tokens
            assert likelihood.logprob == pytest.approx(single.logprob, abs=1e-3)
    margins = [
        (policy[0].logprob - policy[1].logprob) - (reference[0].logprob - reference[1].logprob)
        for policy, reference in zip(*(zip(each[::2], each[1::2], strict=True) for each in direct), strict=True)
    ]
    assert min(map(abs, margins)) > 0.01, "no pair is decided by rounding"
    accuracy = sum(margin > 0 for margin in margins) / len(margins)
    assert score_step(*found, path).alignment.mean == pytest.approx(accuracy, abs=1e-3)
