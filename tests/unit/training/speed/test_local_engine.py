"""The in-process engine against plain one-row forwards of the same random model."""

import asyncio
import copy
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from alignx.schemas.interactions import Pair
from services.engine.judge import judge
from services.errors import EngineRejected
from services.prompts.build import LETTERS, ChatMessage, selection_prompt
from services.prompts.templates import CHAT_SYSTEM, SELECTION_SYSTEM
from tests.unit.training.nano import speaking_qwen
from training.init_checkpoint import train_tokenizer
from training.rl.rewards import GainRule, generation_rewards, selection_rewards
from training.speed.forward import buckets
from training.speed.local_engine import LocalEngine, opens_thinking

POSITIONS = 1024
QUERIES = ("Tea?", "Which of these long novels would the user read on a train?", "A film", "", "x " * 90)


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    texts = [*(f"Item{letter}\n" for letter in LETTERS for _ in range(50)), SELECTION_SYSTEM, *CHAT_SYSTEM.values()]
    tokenizer = train_tokenizer(iter(texts * 10))
    spread = 0.2  # so that probabilities differ enough to tell rows apart
    model = speaking_qwen(tokenizer, max_position_embeddings=POSITIONS, initializer_range=spread)
    return LocalEngine(model.eval(), tokenizer)


def messages(query: str) -> list[ChatMessage]:
    return selection_prompt(query, ["green tea", "black coffee"], "The user likes tea.").messages


def plain_logprobs(engine: LocalEngine, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return engine.model(torch.tensor([ids])).logits[0].log_softmax(-1)


def plain_choice(engine: LocalEngine, asked: Sequence[ChatMessage]) -> list[float]:
    ids = engine.tokenizer.apply_chat_template(asked, continue_final_message=True, return_dict=True)["input_ids"]
    assert engine.tokenizer.decode(ids).endswith('{"selection": "Item')
    letters = [engine.tokenizer.encode(letter)[0] for letter in LETTERS[:2]]
    return plain_logprobs(engine, ids)[-1, letters].tolist()


def near(rows: Sequence[Sequence[float]]) -> list[Any]:
    return [pytest.approx(row, abs=1e-4) for row in rows]


async def choices(engine: LocalEngine, asked: Sequence[Sequence[ChatMessage]]) -> list[list[float]]:
    return await asyncio.gather(*(engine.choose(one, LETTERS[:2], tenant="t") for one in asked))


def spied(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the forwards from here on."""
    shapes: list[tuple[int, ...]] = []
    decoder = engine.model.base_model
    plain = decoder.forward

    def forward(**given: torch.Tensor) -> object:
        shapes.append(tuple(given["input_ids"].shape))
        return plain(**given)

    monkeypatch.setattr(decoder, "forward", forward)
    return shapes


def test_batched_letters_are_those_of_single_rows(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [messages(query) for query in QUERIES]
    expected = [plain_choice(engine, one) for one in asked]
    shapes = spied(engine, monkeypatch)
    found = asyncio.run(choices(engine, asked))
    assert [rows for rows, _ in shapes] == [1, len(QUERIES)], "what all begin with, then all in one forward"
    assert found == near(expected)
    assert len({round(row[0], 3) for row in found}) == len(QUERIES), "the rows are told apart"


def test_the_budget_splits_a_batch_and_changes_nothing(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [messages(query) for query in QUERIES]
    whole = asyncio.run(choices(engine, asked))
    shapes = spied(engine, monkeypatch)
    small = LocalEngine(engine.model, engine.tokenizer, batch_tokens=300)
    split = asyncio.run(choices(small, asked))
    shapes = shapes[1:]
    assert len(shapes) > 1
    assert all(rows * width <= 300 or rows == 1 for rows, width in shapes)
    assert sum(rows for rows, _ in shapes) == len(QUERIES)
    assert split == near(whole)


def test_equal_prompts_are_computed_once(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = spied(engine, monkeypatch)
    found = asyncio.run(choices(engine, [messages("Tea?")] * 5))
    assert [rows for rows, _ in shapes] == [1]
    assert found == [found[0]] * 5


def test_a_batch_of_rewards_is_one_forward(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = spied(engine, monkeypatch)
    replies = [f"<think>a</think>The user likes {what}." for what in ("tea", "long films", "brevity")]
    pairs = [Pair("q", "green tea", "black coffee")] * 3
    found = asyncio.run(selection_rewards(engine, replies, pairs))
    assert [rows for rows, _ in shapes] == [1, 6], "three replies in both orders"
    assert len({reward.total for reward in found}) == 3


def test_a_prompt_beyond_the_positions_is_refused_alone(engine: LocalEngine) -> None:
    async def both() -> list[object]:
        asked = (messages("word " * 3000), messages("Tea?"))
        calls = (engine.choose(one, LETTERS[:2], tenant="t") for one in asked)
        return list(await asyncio.gather(*calls, return_exceptions=True))

    refused, answered = asyncio.run(both())
    assert isinstance(refused, EngineRejected)
    assert f"exceed the {POSITIONS} positions" in str(refused)
    assert isinstance(answered, list)
    long = [ChatMessage(role="user", content="word " * 3000)]
    with pytest.raises(EngineRejected, match="positions"):
        engine.token_logprobs([(long, "yes")])
    with pytest.raises(EngineRejected, match="a reply of 1020"):
        engine.generate([messages("Tea?")[:2]], max_new_tokens=1020)


def test_a_failing_forward_reaches_everyone_who_waits(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_: object) -> None:
        raise RuntimeError("out of memory")

    async def two() -> list[object]:
        calls = (engine.choose(messages(query), LETTERS[:2], tenant="t") for query in QUERIES[:2])
        return list(await asyncio.gather(*calls, return_exceptions=True))

    with monkeypatch.context() as patch:
        patch.setattr(engine.model.base_model, "forward", fails)
        assert [str(error) for error in asyncio.run(two())] == ["out of memory"] * 2
    assert all(isinstance(row, list) for row in asyncio.run(two())), "the next ones are answered"


def test_other_threads_have_their_own_batches(engine: LocalEngine) -> None:
    """TRL runs rewards on a loop in another thread."""
    found: list[list[list[float]]] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(choices(engine, [messages("Tea?")]))))
    thread.start()
    thread.join()
    assert found == [near([plain_choice(engine, messages("Tea?"))])]


def test_a_letter_of_two_tokens_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(ValueError, match="tokens for the letter"):
        asyncio.run(engine.choose(messages("Tea?"), [" AZQX"], tenant="t"))


def test_token_logprobs_are_those_of_single_rows(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [
        ([ChatMessage(role="user", content=query)], reply)
        for query in QUERIES[:3]
        for reply in ("yes", "no tea, thanks")
    ]
    expected = []
    for prompt, reply in asked:
        head = engine.tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, enable_thinking=False, return_dict=True
        )["input_ids"]
        tail = engine.tokenizer.encode(reply)
        rows = plain_logprobs(engine, head + tail)[len(head) - 1 : -1]
        expected.append([rows[index, token].item() for index, token in enumerate(tail)])
    monkeypatch.setattr("training.speed.forward.HEAD_ROWS", 5)
    shapes = spied(engine, monkeypatch)
    found = engine.token_logprobs(asked)
    assert len(shapes) == 1
    assert found == near(expected)
    assert engine.token_logprobs([]) == []
    assert engine.token_logprobs([(asked[0][0], "")]) == [[]]


def test_a_shared_beginning_ends_before_what_is_read(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = [ChatMessage(role="user", content="tea or coffee " * 20)]
    replies = ("the user likes tea", "the user likes coffee", "the user")
    alone = [engine.token_logprobs([(prompt, reply)])[0] for reply in replies]
    monkeypatch.setattr("training.speed.likelihood.PACKED_TOKENS", 0)
    shapes = spied(engine, monkeypatch)
    together = engine.token_logprobs([(prompt, reply) for reply in replies])
    assert [rows for rows, _ in shapes] == [1, 3]
    assert together == near(alone)


def test_a_prompt_is_computed_once_for_its_replies(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What all prompts begin with is one forward, each prompt with its replies a row of the next."""
    start = [ChatMessage(role="system", content="tea or coffee " * 20)]
    prompts = [[*start, ChatMessage(role="user", content=query)] for query in ("Tea?", "Which of these novels?")]
    asked = [(prompt, reply) for prompt in prompts for reply in ("the user likes tea", "no", "the user")]
    asked += [([*start, ChatMessage(role="user", content="Alone?")], "yes"), (prompts[0], ""), asked[0]]
    alone = [engine.token_logprobs([each])[0] for each in asked]
    shapes = spied(engine, monkeypatch)
    together = engine.token_logprobs(asked)
    (one, beginning), (packs, _), (rest, _) = shapes
    assert (one, packs, rest) == (1, 2, 1)
    assert beginning > 32
    assert together == near(alone)
    assert together[-1] == together[0]


def test_models_without_full_attention_pack_nothing(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [([ChatMessage(role="user", content="Drink?")], reply) for reply in ("tea", "no tea")]
    alone = [engine.token_logprobs([each])[0] for each in asked]
    monkeypatch.setattr("training.speed.local_engine.has_full_attention", lambda model: False)
    shapes = spied(engine, monkeypatch)
    together = engine.token_logprobs(asked)
    assert [rows for rows, _ in shapes] == [2]
    assert together == near(alone)


def test_it_rewards_by_the_likelihood_that_serving_chooses_by(engine: LocalEngine) -> None:
    pair = Pair("Drink?", "green tea", "black coffee " * 300)
    replies = ["<think>a</think>The user likes tea.", "nothing"]
    scorer, rule = partial(engine.token_logprobs, fit=True), GainRule("log-odds", margin=0, smooth=True)
    found = asyncio.run(generation_rewards(scorer, replies, [pair, pair], rule))
    engine.protocol = "likelihood"
    try:
        judged = asyncio.run(judge(engine, pair.query, pair[1:], "The user likes tea.", tenant="t"))
    finally:
        engine.protocol = "letters"
    assert found[0].total == pytest.approx(judged.probabilities[0], abs=1e-4)
    assert found[0].total != 0.5
    assert found[1].total == 0


def test_writing_repeats_with_its_seed_and_counts_rows(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [messages(query)[:2] for query in QUERIES]
    seen: list[tuple[int, int]] = []
    torch.manual_seed(7)
    before = torch.get_rng_state()
    options = {"max_new_tokens": 6, "temperature": 1.0, "top_p": 0.9, "top_k": 50}
    monkeypatch.setattr("training.speed.local_engine.WRITE_TOKENS", 800)
    first = engine.generate(prompts, seed=1, progress=lambda done, total: seen.append((done, total)), **options)
    assert torch.equal(before, torch.get_rng_state()), "the caller's random state stays"
    assert first == engine.generate(prompts, seed=1, **options)
    assert first != engine.generate(prompts, seed=2, **options)
    assert len(seen) > 1
    assert seen[-1] == (len(QUERIES), len(QUERIES))
    assert engine.generate([], max_new_tokens=3) == []


def test_likeliest_tokens_do_not_depend_on_the_batch(engine: LocalEngine) -> None:
    prompts = [messages(query)[:2] for query in QUERIES]
    together = engine.generate(prompts, max_new_tokens=5, temperature=0)
    alone = [engine.generate([prompt], max_new_tokens=5, temperature=0)[0] for prompt in prompts]
    assert together == alone
    assert any(together)


def test_the_mode_of_a_shared_model_stays(engine: LocalEngine) -> None:
    engine.model.train()
    try:
        asyncio.run(choices(engine, [messages("Tea?")]))
        assert engine.model.training
    finally:
        engine.model.eval()
    assert next(engine.model.parameters()).requires_grad


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # PEFT asks by the old name
def test_adapters_are_part_of_the_model(engine: LocalEngine) -> None:
    adapted = get_peft_model(
        copy.deepcopy(engine.model), LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    )
    local = LocalEngine(adapted.eval(), engine.tokenizer)
    asked = messages("Tea?")
    found = asyncio.run(choices(local, [asked]))[0]
    assert found == pytest.approx(plain_choice(local, asked), abs=1e-4)
    assert found != pytest.approx(plain_choice(engine, asked), abs=1e-4)


def test_bfloat16_is_near(engine: LocalEngine) -> None:
    fast = LocalEngine(engine.model, engine.tokenizer, autocast=True)
    found, exact = (asyncio.run(choices(one, [messages("Tea?")]))[0] for one in (fast, engine))
    assert found != exact
    assert found == pytest.approx(exact, abs=0.2)


def test_altered_logits_are_refused(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.model.config, "final_logit_softcapping", 30.0, raising=False)
    with pytest.raises(ValueError, match="final_logit_softcapping"):
        LocalEngine(engine.model, engine.tokenizer)


def test_a_template_that_opens_the_thinking_is_recognised(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not opens_thinking(engine.tokenizer)
    opening = engine.tokenizer.chat_template + "{% if add_generation_prompt %}<think>\n{% endif %}"
    monkeypatch.setattr(engine.tokenizer, "chat_template", opening)
    assert opens_thinking(engine.tokenizer)


def test_buckets_hold_the_budget() -> None:
    lengths = [3, 100, 5, 4, 50, 7]
    found = list(buckets(lengths, 20))
    assert sorted(index for bucket in found for index in bucket) == list(range(6))
    assert all(len(bucket) == 1 or len(bucket) * max(lengths[i] for i in bucket) <= 20 for bucket in found)
    assert found == [[1], [4], [5, 2], [3, 0]]
