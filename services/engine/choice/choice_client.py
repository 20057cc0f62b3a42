"""The client with what a choice between items needs: the odds of letters (`choose`), the likelihood of a reply."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

import orjson

from services.engine import wire
from services.engine.client import Client
from services.engine.judge import ChoiceProtocol, Likelihood, fit_tokens
from services.engine.refusals import UNREADABLE, is_retryable, member, parse_json, refusal
from services.engine.shared_calls import SharedCalls
from services.engine.wire import Body, Messages
from services.errors import EngineError, EngineRejected, EngineUnsupported

DEFAULT_WINDOW = 8_192
"""Tokens of a window that the engine does not name."""
_KNOWN_LIKELIHOODS = 50_000
"""Kept in the process, at about 200 bytes; the one used longest ago goes first."""


class ChoiceClient(Client):
    """A `Client` that judges items (services/engine/judge.py), by the protocol of its capabilities."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._letter_ids: dict[tuple[str, ...], list[int] | None] = {}
        """By the model's name and the letters."""
        self._tokens: SharedCalls[bytes, list[int]] = SharedCalls()
        self._likelihoods: OrderedDict[bytes, Likelihood] = OrderedDict()

    @property
    def context_tokens(self) -> int:
        """The window that prompt and answer share."""
        return self.capabilities.context_tokens or DEFAULT_WINDOW

    @property
    def protocol(self) -> ChoiceProtocol:
        return self.capabilities.protocol

    # --- letters -------------------------------------------------------------------------------

    def forget_letters(self) -> None:
        """Has the letters' tokens asked for anew: another tokenizer may answer now, under the same name."""
        self._letter_ids.clear()

    async def choose(
        self, messages: Messages, letters: Sequence[str], *, tenant: str, priority: int = 0
    ) -> list[float]:
        """Log-probability of each of `letters` as the token that continues the last message.

        Asks for exactly these tokens, as vLLM can. A server that cannot do that lists its 20 likeliest tokens (see
        `wire.letter_logprobs`), and one that cannot continue a message is asked for the letter alone.
        """
        mode = self.capabilities.letters
        if mode == "none":
            raise EngineUnsupported("The engine reports no log-probabilities, so it cannot choose")
        choose = self._choose_next if mode == "next_token" else self._choose_continued
        try:
            return await choose(await self._body(messages, tenant, priority), letters, tenant)
        except EngineRejected:
            if self.capabilities.letters == mode:
                raise
        return await self.choose(messages, letters, tenant=tenant, priority=priority)

    async def _choose_continued(self, body: Body, letters: Sequence[str], tenant: str) -> list[float]:
        key = (body["model"], *letters)
        body |= wire.CHOICE
        if key not in self._letter_ids:
            self._letter_ids[key] = await self._ids_of(letters)
        if (ids := self._letter_ids[key]) is not None:
            listed = await self._first_token(body | wire.choice_of(ids), tenant)
            if (logprobs := wire.token_logprobs(listed, ids)) is not None:
                return logprobs
            self._letter_ids[key] = None
        return wire.letter_logprobs(await self._first_token(body | wire.LIKELIEST_TOKENS, tenant), letters)

    async def _choose_next(self, body: Body, letters: Sequence[str], tenant: str) -> list[float]:
        body |= wire.FIRST_TOKEN | wire.LIKELIEST_TOKENS | {"messages": wire.without_prefill(body["messages"])}
        listed = await self._first_token(body, tenant)
        if not wire.lists_letter(listed, letters):
            raise EngineError("The engine lists no letter among its likeliest tokens")
        return wire.letter_logprobs(listed, letters)

    async def _first_token(self, body: Body, tenant: str) -> dict[str, float]:
        return wire.first_token_logprobs(await self._answer("choose", "/chat/completions", body, tenant))

    async def _ids_of(self, letters: Sequence[str]) -> list[int] | None:
        """The letters' token ids; None where the server cannot tell or needs more than one token for a letter."""
        tokens = await asyncio.gather(*map(self._text_tokens, letters))
        ids = [ids[0] for ids in tokens if len(ids) == 1]
        return ids if len(set(ids)) == len(letters) else None

    # --- likelihood ----------------------------------------------------------------------------

    async def likelihood(self, messages: Messages, reply: str, *, tenant: str, priority: int = 0) -> Likelihood:
        """Of `reply` as the next turn of a chat, in the engine's own chat template and cut as `fit_tokens` says.

        An answer is kept, for this tenant alone: most selections share what they ask without a summary. Raises
        EngineError where the engine tells no likelihoods."""
        model = await self.model()
        key = hashlib.sha256(orjson.dumps([model, tenant, list(messages), reply])).digest()
        if key in self._likelihoods:
            self._likelihoods.move_to_end(key)
            return self._likelihoods[key]
        chat: Body = {"messages": list(messages), "add_generation_prompt": True, **wire.NO_THINKING}
        rendered = self._shared_tokens(self.capabilities.dialect.apply(chat))
        context, item = await asyncio.gather(rendered, self._text_tokens(reply))
        if not context:
            raise EngineError(UNREADABLE)
        likelihood = Likelihood(0.0, 0)
        if item:
            context, item = fit_tokens(context, item, self.context_tokens)
            body = await self._body(context + item, tenant, priority, field="prompt") | wire.LIKELIHOOD
            answer = await self._answer("choose", "/completions", body, tenant)
            likelihood = Likelihood(wire.prompt_logprob(answer, item), len(item))
        self._likelihoods[key] = likelihood
        if len(self._likelihoods) > _KNOWN_LIKELIHOODS:
            self._likelihoods.popitem(last=False)
        return likelihood

    # --- tokens --------------------------------------------------------------------------------

    async def _text_tokens(self, text: str) -> list[int]:
        return await self._shared_tokens({"prompt": text, "add_special_tokens": False})

    async def _shared_tokens(self, body: Body) -> list[int]:
        """One call for all who ask for the same at once."""
        body["model"] = await self.model()
        return await self._tokens.call(orjson.dumps(body), partial(self._tokenize, body))

    async def _tokenize(self, body: Body) -> list[int]:
        """Empty from a server that has no such call."""
        status, answer = await self._request("POST", f"{self._root}/tokenize", self._server.first_token_timeout_s, body)
        if status == 404:  # perhaps the server now has another model
            self._model = self._server.model
        if status >= 400 and is_retryable(error := refusal(status, answer, None)):
            raise error
        tokens = member(parse_json(answer), "tokens") if status == 200 else None
        return [int(token) for token in tokens] if isinstance(tokens, list) else []
