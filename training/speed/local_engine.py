"""A language model in this process: judge, response model and generator for training and evaluation.

`LocalEngine` gives a transformers model the interfaces of services/engine/judge.py and
training/rl/rewards.py, so that the judge of serving works on it unchanged. Requests that are
awaited together share forwards: their common prefix is computed once, and the rest is sorted by
length and padded on the right, where a causal model does not attend to the padding.

    engine = LocalEngine.load("var/models/alignx-small")
    probability = await judge_choice(engine, summary, pair)
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from services.engine.judge import ChoiceProtocol, Likelihood, fit_tokens
from services.errors import EngineRejected
from services.prompts.build import ChatMessage
from training.speed.forward import (
    Ids,
    adjusted_logits,
    buckets,
    fill_cache,
    logprobs,
    repeat_cache,
    shared_prefix_length,
    unwrap_adapter,
)
from training.speed.likelihood import PromptReply, group_by_prompt, packed_logprobs
from training.speed.prefix_sharing import has_full_attention

WRITE_TOKENS: Final = 16_384
"""Most tokens of the prompts and replies that are generated together."""
Messages = Sequence[ChatMessage]
Progress = Callable[[int, int], None]
"""Called with the number of rows that are done and of all rows."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A text and its `targets`: (position, token) for the log-probability of that token after the text up
    to and with that position."""

    ids: Ids
    targets: tuple[tuple[int, int], ...]


class LocalEngine:
    """Satisfies `LikelihoodEngine` (choose, likelihood) and `TokenScorer` (token_logprobs), and writes (generate).

    It may share its model with a trainer between two steps: each call works without gradients in
    evaluation mode, and leaves mode and random state as they were.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        batch_tokens: int | None = None,
        autocast: bool = False,
    ) -> None:
        """`batch_tokens` bounds a forward, padding included; default 2048 on a CPU, where more does not
        fit its caches, and 16384 elsewhere. `autocast` computes in bfloat16.

        Raises ValueError for a model that changes its logits after the output layer.
        """
        if name := adjusted_logits(model.config):
            raise ValueError(f"a model whose configuration sets {name} cannot be used as a local engine")
        self.model = model
        self._causal = unwrap_adapter(model)
        self.tokenizer = tokenizer
        self.positions: int = model.config.max_position_embeddings
        self.batch_tokens = batch_tokens or (2_048 if model.device.type == "cpu" else 16_384)
        self.autocast = autocast
        self.protocol: ChoiceProtocol = "letters"
        self._waiting: dict[asyncio.AbstractEventLoop, list[tuple[_Row, asyncio.Future[list[float]]]]] = {}

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        batch_tokens: int | None = None,
        autocast: bool = False,
    ) -> Self:
        """The checkpoint at `path` and its tokenizer; `dtype` is the name of a torch dtype."""
        model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).to(device)
        tokenizer = AutoTokenizer.from_pretrained(path)
        return cls(model, tokenizer, batch_tokens=batch_tokens, autocast=autocast)

    # --- choice ----------------------------------------------------------------------------------

    async def choose(
        self, messages: Messages, letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        """Natural log-probability of each of `letters` as the token that continues the last message.

        Calls of the same turn of the event loop are computed together. Raises EngineRejected
        for a prompt beyond the model's positions, ValueError for a letter that is not one token.
        """
        ids = self._render(messages, continue_final_message=True, enable_thinking=False)
        self._require_room(len(ids))
        return await self._score_soon(_Row(ids, tuple((len(ids) - 1, self._letter_id(letter)) for letter in letters)))

    async def likelihood(self, messages: Messages, reply: str, *, tenant: str, priority: int = 0) -> Likelihood:
        """As `ChoiceClient.likelihood`; calls of the same turn of the event loop are computed together."""
        prompt, ids = fit_tokens(*self._reply_tokens(messages, reply), self.positions)
        logprobs = await self._score_soon(_reply_row(tuple(prompt), tuple(ids)))
        return Likelihood(sum(logprobs), len(logprobs))

    async def _score_soon(self, row: _Row) -> list[float]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[float]] = loop.create_future()
        waiting = self._waiting.setdefault(loop, [])
        waiting.append((row, answer))
        if len(waiting) == 1:
            loop.call_soon(self._answer, loop)
        return await answer

    def _answer(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = [(row, answer) for row, answer in self._waiting.pop(loop) if not answer.done()]
        try:
            scores = self._scores([row for row, _ in batch])
        except Exception as error:  # any error belongs to the callers that wait
            for _, answer in batch:
                answer.set_exception(error)
        else:
            for (_, answer), logprobs in zip(batch, scores, strict=True):
                answer.set_result(logprobs)

    # --- likelihood ------------------------------------------------------------------------------

    def token_logprobs(self, rows: Sequence[tuple[Messages, str]], *, fit: bool = False) -> list[list[float]]:
        """For each (messages, reply) the natural log-probability of each token of the reply, without
        the token that would end it. With `fit` both are cut as in serving; else a row beyond the model's
        positions raises EngineRejected."""
        pairs: list[PromptReply] = []
        for messages, reply in rows:
            prompt, ids = self._reply_tokens(messages, reply)
            if fit:
                fitted = fit_tokens(prompt, ids, self.positions)
                prompt, ids = tuple(fitted[0]), tuple(fitted[1])
            self._require_room(len(prompt), len(ids))
            pairs.append((prompt, ids))
        by_prompt = group_by_prompt(pairs) if has_full_attention(self.model) else {}
        with self._inference():
            scores = packed_logprobs(self._causal, by_prompt, pad=self._pad_id(), budget=self.batch_tokens)
        scores.update((pair, []) for pair in pairs if not pair[1])
        others = [pair for pair in pairs if pair not in scores]
        if others:
            scores.update(zip(others, self._scores([_reply_row(*pair) for pair in others]), strict=True))
        return [scores[pair] for pair in pairs]

    # --- generation ------------------------------------------------------------------------------

    def generate(
        self,
        prompts: Sequence[Messages],
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int = 0,
        thinking: bool = True,
        progress: Progress | None = None,
    ) -> list[str]:
        """A reply to each prompt, without control tokens. Temperature 0 takes the likeliest token;
        `top_k` of 0 or less and `top_p` of 1 leave all tokens in. The same seed and prompts
        give the same replies. `thinking` is passed on to the chat template.

        Raises EngineRejected if a prompt and `max_new_tokens` exceed the model's positions.
        """
        rendered = [self._render(m, add_generation_prompt=True, enable_thinking=thinking) for m in prompts]
        for ids in rendered:
            self._require_room(len(ids), max_new_tokens)
        config = self._sampling(max_new_tokens, temperature, top_p, top_k)
        replies, done = [""] * len(rendered), 0
        device = self.model.device
        with self._inference(), torch.random.fork_rng([] if device.type == "cpu" else [device]):
            torch.manual_seed(seed)
            for bucket in buckets([len(ids) + max_new_tokens for ids in rendered], WRITE_TOKENS):
                texts = self._generate_bucket([rendered[index] for index in bucket], config)
                for index, text in zip(bucket, texts, strict=True):
                    replies[index] = text
                done += len(bucket)
                if progress is not None:
                    progress(done, len(rendered))
        return replies

    def _sampling(self, max_new_tokens: int, temperature: float, top_p: float, top_k: int) -> Any:
        ends = self.model.generation_config.eos_token_id
        sampled = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": max(top_k, 0)}
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            eos_token_id=self.tokenizer.eos_token_id if ends is None else ends,
            pad_token_id=self._pad_id(),
            **(sampled if temperature > 0 else {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}),
        )

    def _generate_bucket(self, rows: Sequence[tuple[int, ...]], config: Any) -> list[str]:
        width = max(map(len, rows))
        ids = self._tensor([(self._pad_id(),) * (width - len(row)) + row for row in rows])
        mask = self._tensor([(0,) * (width - len(row)) + (1,) * len(row) for row in rows])
        written = self.model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
        texts: list[str] = self.tokenizer.batch_decode(written[:, width:], skip_special_tokens=True)
        return texts

    # --- the forward -----------------------------------------------------------------------------

    def _scores(self, rows: Sequence[_Row]) -> list[list[float]]:
        """The log-probabilities of each row's targets. Equal rows are computed once, and so is the prefix
        that all share: the instruction of a judge is a third of its prompt."""
        unique = list(dict.fromkeys(rows))
        shared = _shared_prefix(unique)
        scores: dict[_Row, list[float]] = {}
        with self._inference():
            cache = fill_cache(self._causal, unique[0].ids[:shared])
            for bucket in buckets([len(row.ids) - shared for row in unique], self.batch_tokens):
                batch = [unique[index] for index in bucket]
                scores.update(zip(batch, self._forward(batch, shared, cache), strict=True))
        return [scores[row] for row in rows]

    def _forward(self, rows: Sequence[_Row], shared: int, cache: Any) -> list[list[float]]:
        """`cache` holds the first `shared` tokens, which all rows have in common."""
        width = max(len(row.ids) for row in rows) - shared
        ids = self._tensor([row.ids[shared:] + (self._pad_id(),) * (width + shared - len(row.ids)) for row in rows])
        past = repeat_cache(cache, len(rows))
        decoded = self._causal.base_model(input_ids=ids, past_key_values=past, use_cache=past is not None)
        hidden = decoded.last_hidden_state  # (rows, width, hidden)
        targets = [
            (index, position - shared, token) for index, row in enumerate(rows) for position, token in row.targets
        ]
        if not targets:
            return [[] for _ in rows]
        index, position, token = self._tensor(targets).T
        scores = iter(logprobs(self._causal, hidden[index, position], token).tolist())
        return [[next(scores) for _ in row.targets] for row in rows]

    @contextmanager
    def _inference(self) -> Iterator[None]:
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.autocast):
                yield
        finally:
            self.model.train(training)

    # --- tokens ----------------------------------------------------------------------------------

    def _render(self, messages: Messages, **options: bool) -> tuple[int, ...]:
        rendered = self.tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=True, **options)
        return tuple(rendered["input_ids"])

    def _reply_tokens(self, messages: Messages, reply: str) -> tuple[Ids, Ids]:
        prompt = self._render(messages, add_generation_prompt=True, enable_thinking=False)
        return prompt, tuple(self.tokenizer.encode(reply, add_special_tokens=False))

    def _letter_id(self, letter: str) -> int:
        ids = self.tokenizer.encode(letter, add_special_tokens=False)
        if len(ids) != 1:
            raise ValueError(f"the tokenizer needs {len(ids)} tokens for the letter {letter!r}; a judge needs 1")
        return int(ids[0])

    def _require_room(self, prompt: int, reply: int = 0) -> None:
        if prompt + reply > self.positions:
            what = f"A prompt of {prompt} tokens and a reply of {reply}" if reply else f"A prompt of {prompt} tokens"
            raise EngineRejected(f"{what} exceed the {self.positions} positions of the model")

    def _pad_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    def _tensor(self, rows: Sequence[tuple[int, ...]]) -> Any:
        return torch.tensor(rows, device=self.model.device)


def _shared_prefix(rows: Sequence[_Row]) -> int:
    """How many tokens all rows begin with, before any target; 0 where sharing them would not pay."""
    ends = [min((position for position, _ in row.targets), default=len(row.ids) - 1) for row in rows]
    return shared_prefix_length([row.ids for row in rows], min(ends))


def _reply_row(prompt: Ids, reply: Ids) -> _Row:
    """A row whose targets are all tokens of the reply."""
    return _Row(prompt + reply[:-1], tuple((len(prompt) - 1 + index, token) for index, token in enumerate(reply)))


def opens_thinking(tokenizer: Any) -> bool:
    """Whether the chat template itself writes <think> before a reply, so that replies lack it
    (`opened` in training/rl/rewards.py)."""
    message = ChatMessage(role="user", content="x")
    rendered: str = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    return rendered.rstrip().endswith("<think>")
