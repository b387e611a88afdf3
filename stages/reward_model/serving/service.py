"""What the server answers on each path."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypeVar

from fastapi import Body, HTTPException, Request, Response

from reward_model.common.errors import UserError
from reward_model.contract.encoder import Group
from reward_model.scoring.rows import ERROR, ParsedRow
from reward_model.scoring.scorer import Scorer
from reward_model.serving.batch_queue import BatchQueue
from reward_model.serving.limits import Limits, while_wanted
from reward_model.serving.metrics import Metrics
from reward_model.serving.protocol import (
    ChatMessage,
    Classification,
    ClassifyAnswer,
    ClassifyRequest,
    Health,
    RewardAnswer,
    RewardRequest,
    ScoreEvaluation,
    ScoreEvaluationRequest,
    Usage,
)
from reward_model.serving.rendered import RenderedTextEncoder

Result = TypeVar("Result")
Rows = list[dict[str, Any]]
MAX_RESPONSES_TOGETHER = 8  # of a prompt, as `Scorer.batch_size` counts them


class RewardService:
    """A scorer behind a queue.

    Args:
        scorer: computes the rewards.
        name: of the model, as answers give it.
        label: of the model's only class.
        limits: what requests may hold, and how long they may take.
    """

    def __init__(self, scorer: Scorer, name: str, label: str, limits: Limits) -> None:
        self.metrics = Metrics()
        batch_texts = MAX_RESPONSES_TOGETHER * scorer.batch_size
        self.queue = BatchQueue(scorer.rewards, batch_texts, self.metrics.batch_texts.observe)
        self._scorer = scorer
        self._name = name
        self._label = label
        self._limits = limits
        self._rendered = RenderedTextEncoder(scorer.encoder)
        # Few, since a text of megabytes takes hundreds of megabytes to encode.
        self._encoding = ThreadPoolExecutor(2)

    async def score(self, request: Request, rows: Annotated[dict[str, Any] | Rows, Body()]) -> dict[str, Any] | Rows:
        """Score a row, or a list of rows, as score.py does.

        A row holds text, prompt + response, prompt + response_a + response_b, prompt + chosen + rejected, or
        prompt + responses. In a list, one that cannot be scored gets an `error`.
        """
        if isinstance(rows, list):
            return await self._while_wanted(request, self._score_rows(rows))
        [result] = await self._while_wanted(request, self._score_rows([rows]))
        if ERROR in result:
            raise UserError(result[ERROR])
        return result

    async def get_reward(self, request: Request, asked: RewardRequest) -> RewardAnswer:
        """Answer OpenRLHF: the rewards of rendered conversations."""
        rewards, _ = await self._while_wanted(request, self._score_rendered(asked.query))
        return RewardAnswer(rewards=rewards, scores=rewards)

    async def evaluate_scores(self, request: Request, asked: ScoreEvaluationRequest) -> ScoreEvaluation:
        """Answer LLaMA-Factory: the rewards of rendered conversations."""
        rewards, _ = await self._while_wanted(request, self._score_rendered(asked.messages))
        return ScoreEvaluation(model=asked.model, scores=rewards)

    async def classify(self, request: Request, asked: ClassifyRequest) -> ClassifyAnswer:
        """Answer as vLLM does: the rewards of rendered conversations, or of one in messages."""
        if asked.messages is None:
            texts = [asked.input] if isinstance(asked.input, str) else asked.input or []
            rewards, tokens = await self._while_wanted(request, self._score_rendered(texts))
        else:
            rewards, tokens = await self._while_wanted(request, self._score_messages(asked.messages))
        data = [Classification(index=index, label=self._label, probs=[reward]) for index, reward in enumerate(rewards)]
        return ClassifyAnswer(model=self._name, data=data, usage=Usage(prompt_tokens=tokens, total_tokens=tokens))

    async def health(self) -> Health:
        """Say that the server answers, and with what."""
        return Health(
            model=self._name,
            computes_on=self._scorer.backend.name,
            max_length=self._scorer.encoder.contract.max_length,
            normalized=self._scorer.z_scores_by is not None,
        )

    async def show_metrics(self) -> Response:
        """Give Prometheus its text."""
        return Response(self.metrics.to_text(), media_type="text/plain; version=0.0.4")

    async def _score_rows(self, rows: Rows) -> Rows:
        parsed, groups = await self._in_thread(self._encode_rows, rows)
        rewards = iter(await self.queue.rewards(groups))
        return [{ERROR: row} if isinstance(row, str) else row.result(self._scorer, next(rewards)) for row in parsed]

    def _encode_rows(self, rows: Rows) -> tuple[list[ParsedRow | str], list[Group]]:
        """Each row, or why it cannot be scored; and the token ids of those that can."""
        self._check_count(len(rows))
        parsed = [_parse_or_explain(row) for row in rows]
        self._check_count(sum(len(row.responses) for row in parsed if isinstance(row, ParsedRow)))
        groups: list[Group] = []
        for number, row in enumerate(parsed):
            if isinstance(row, ParsedRow):
                try:
                    groups.append(self._scorer.encode(row.prompt, row.responses).ids)
                except UserError as reason:
                    parsed[number] = str(reason)
        return parsed, groups

    async def _score_rendered(self, texts: Sequence[str]) -> tuple[list[float], int]:
        """The rewards of the texts, and how many tokens they have."""
        self._check_count(len(texts))
        ids = await self._in_thread(lambda: [self._rendered.encode(text) for text in texts])
        rewards = await self.queue.rewards([[of_text] for of_text in ids])
        return [reward for [reward] in rewards], sum(map(len, ids))

    async def _score_messages(self, messages: Sequence[ChatMessage]) -> tuple[list[float], int]:
        """The reward of the last message, and how many tokens the conversation has."""
        *prompt, last = [turn.model_dump() for turn in messages]
        if last["role"] != "assistant":
            raise UserError("the last message is not the assistant's, so there is no response to score")
        encoded = await self._in_thread(self._scorer.encode, prompt or "", [last["content"]])
        [rewards] = await self.queue.rewards([encoded.ids])
        return rewards, len(encoded.ids[0])

    async def _in_thread(self, encode: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._encoding, encode, *arguments)

    async def _while_wanted(self, request: Request, work: Awaitable[Result]) -> Result:
        return await while_wanted(request, work, self._limits.seconds)

    def _check_count(self, texts: int) -> None:
        if texts > self._limits.texts:
            raise HTTPException(413, f"{texts} texts at once: this server takes up to {self._limits.texts}")


def _parse_or_explain(row: dict[str, Any]) -> ParsedRow | str:
    try:
        return ParsedRow.parse(row)
    except UserError as reason:
        return str(reason)
