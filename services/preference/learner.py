"""Appends the conversations of served chats as events of their users: a task of the preference service.

Several may run: a user is claimed under a lease, and an event is stored in the step that takes its conversation out of
the outbox (outcomes/chats.py). What the user's limits do not let in now is tried again later.
"""

import asyncio
import logging

from pydantic import ValidationError
from redis.exceptions import RedisError

from alignx.schemas.interactions import INTERACTION
from services.errors import AlignXError, BacklogFull, PayloadTooLarge, QueueFull, ResponseUnknown, UserLimited
from services.outcomes.chats import ChatOutbox
from services.outcomes.served import Outcomes
from services.preference.ingest import Ingest
from services.preference.updates.update_metrics import IngestMetrics
from services.server.startup_check import StartupCheck

_POLL_S, _PAUSE_S, _AGAIN_S = 0.5, 1.0, 60.0
logger = logging.getLogger("alignx.learner")


class Learner:
    """One object a process; `run` until `stop`."""

    def __init__(self, ingest: Ingest, chats: ChatOutbox, outcomes: Outcomes, metrics: IngestMetrics) -> None:
        self.ingest = ingest
        self.chats = chats
        self.outcomes = outcomes
        self.metrics = metrics
        self._stopping = False

    def stop(self, work: "asyncio.Task[None]") -> None:
        """Ends `run`, whose task is `work`; a cancellation alone can get lost, as in the dispatcher."""
        self._stopping = True
        work.cancel()

    async def run(self, startup: StartupCheck) -> None:
        """Works until `stop`, once Redis is ready."""
        await startup.wait()
        while not self._stopping:
            pause = _POLL_S
            try:
                if await self.learn_due():
                    pause = 0.0
            except (AlignXError, RedisError) as error:
                logger.warning("chats are not learned", extra={"error": type(error).__name__})
                pause = _PAUSE_S
            except Exception:  # else the task would end, and the chats wait
                logger.exception("chats are not learned")
                pause = _PAUSE_S
            await asyncio.sleep(pause)

    async def learn_due(self) -> int:
        """Appends what waits of one user of each shard that has a due one; returns how many users."""
        shards, lag_s = await self.chats.due_shards()
        self.metrics.chats_lag.set(lag_s)
        claims = [claim for shard in shards if (claim := await self.chats.claim(shard))]
        for tenant, user in claims:
            later_s = await self.learn(tenant, user)
            await self.chats.settle(tenant, user, later_s)
        return len(claims)

    async def learn(self, tenant: str, user: str) -> float:
        """Appends what waits of the user, as far as their limits allow; in how many seconds the rest may be tried."""
        later_s = 0.0
        for response_id, record in await self.chats.waiting(tenant, user):
            try:
                event = INTERACTION.validate_json(record)
                await self.ingest.append(tenant, user, [event], chat=response_id)
            except ResponseUnknown:  # another process has stored it, or the user was erased
                continue
            except (BacklogFull, UserLimited, QueueFull) as error:
                return error.retry_after or _PAUSE_S
            except (PayloadTooLarge, ValidationError):
                await self._drop(tenant, user, response_id)
            except (AlignXError, RedisError):
                raise
            except Exception:  # else it would hold up those behind it
                logger.exception("a chat is not learned")
                later_s = _AGAIN_S
        return later_s

    async def finish(self, tenant: str, user: str) -> None:
        """Leaves nothing of the user waiting: what cannot be appended now is dropped."""
        await self.learn(tenant, user)
        await self._drop(tenant, user, *(response_id for response_id, _ in await self.chats.waiting(tenant, user)))

    async def _drop(self, tenant: str, user: str, *response_ids: str) -> None:
        await self.chats.drop(tenant, user, *response_ids)
        for _ in response_ids:
            self.outcomes.count_chat("refused")
