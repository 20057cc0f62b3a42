"""The tokenizer of models from scratch: any text round-trips, fixed instructions are one token."""

import pytest

from alignx.schemas.interactions import ComparisonInteraction
from services.prompts.build import LETTERS, selection_prompt, update_prompt
from services.prompts.templates import SELECTION_PREFILL
from training.tokenizer import END, Shape, fixed_texts, fresh_model, train

TEXTS = ["The user likes tennis and chess.", "Hey pal! tennis is simply a nice thing.", "Fresh story on law"] * 50
ODD = "Ünïcode — 日本語 🙂 <b>&lt;</b>\n\n\t12345"


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return train(TEXTS, 600, 256, fixed=fixed_texts())


def prompts() -> list[str]:
    choice = ComparisonInteraction(query="What now?", chosen="Fresh story on law", rejected="Fresh story on art")
    messages = [
        *update_prompt("The user likes law.", [choice], past_tokens=100).messages,
        *selection_prompt("What now?", ["law", "art"], "The user likes law.").messages,
    ]
    return [message["content"] for message in messages]


def test_any_text_round_trips(tokenizer: object) -> None:
    for text in (*TEXTS[:3], ODD, *prompts()):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_fixed_texts_and_letters_are_one_token_each(tokenizer: object) -> None:
    for text in (*fixed_texts(), *LETTERS):
        assert len(tokenizer.encode(text)) == 1, text
    ids = tokenizer.encode(f'{SELECTION_PREFILL}{LETTERS[1]}"}}')
    assert tokenizer.decode(ids[1:2]) == LETTERS[1]


def test_a_turn_ends_with_the_end_token(tokenizer: object) -> None:
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert tokenizer.encode(rendered)[-2] == tokenizer.convert_tokens_to_ids(END) == tokenizer.eos_token_id


def test_the_same_seed_makes_the_same_model(tokenizer: object) -> None:
    shape = Shape(hidden=32, layers=1, heads=2, kv_heads=1, head_dim=16, intermediate=32, positions=256)
    first, second = (fresh_model(tokenizer, shape, 3).state_dict() for _ in range(2))
    assert all(bool((first[name] == second[name]).all()) for name in first)
