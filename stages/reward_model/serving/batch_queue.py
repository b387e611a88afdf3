"""Requests that wait at the same time are computed together."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from reward_model.contract.encoder import Group

Rewards = list[list[float]]


class BatchQueue:
    """A first-in, first-out queue in front of a scorer. Belongs to one event loop.

    Args:
        score: gives the rewards of groups, in their order; called in one thread of its own.
        batch_texts: texts after which a batch takes no further request.
        on_batch: told the number of texts of each batch.
    """

    def __init__(
        self, score: Callable[[Sequence[Group]], Rewards], batch_texts: int, on_batch: Callable[[int], None]
    ) -> None:
        self._score = score
        self._batch_texts = batch_texts
        self._on_batch = on_batch
        self._waiting: asyncio.Queue[tuple[Sequence[Group], asyncio.Future[Rewards]]] = asyncio.Queue()

    async def rewards(self, groups: Sequence[Group]) -> Rewards:
        """The rewards of each group's sequences. If the caller is cancelled first, they are not computed."""
        answer: asyncio.Future[Rewards] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((groups, answer))
        return await answer

    async def run(self) -> None:
        """Compute what comes, until cancelled."""
        with ThreadPoolExecutor(1) as thread:
            while True:
                batch = [await self._waiting.get()]
                while not self._waiting.empty() and _count_texts(batch) < self._batch_texts:
                    batch.append(self._waiting.get_nowait())
                batch = [(groups, answer) for groups, answer in batch if not answer.cancelled()]
                if batch:
                    await self._compute(thread, batch)

    async def _compute(
        self, thread: ThreadPoolExecutor, batch: list[tuple[Sequence[Group], asyncio.Future[Rewards]]]
    ) -> None:
        self._on_batch(_count_texts(batch))
        together = [group for groups, _ in batch for group in groups]
        try:
            found = iter(await asyncio.get_running_loop().run_in_executor(thread, self._score, together))
        except Exception as error:  # every request of the batch gets it; the next batch may fare better
            for _, answer in batch:
                if not answer.cancelled():
                    answer.set_exception(error)
            return
        for groups, answer in batch:
            own = [next(found) for _ in groups]
            if not answer.cancelled():
                answer.set_result(own)


def _count_texts(batch: Sequence[tuple[Sequence[Group], object]]) -> int:
    return sum(len(group) for groups, _ in batch for group in groups)
