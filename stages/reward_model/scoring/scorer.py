"""A loaded model that gives rewards, comparisons and rankings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

from reward_model.common.errors import UserError
from reward_model.common.messages import is_unicode
from reward_model.contract.chat_template import TemplateRefuses
from reward_model.contract.encoder import EncodedResponses, Encoder, Group, TokenIds
from reward_model.evaluation.calibration import Calibration
from reward_model.scoring.prompts import Prompt, as_messages

# Rewards closer than this are the same to within what computing them in another order changes.
TIE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Comparison:
    """Two responses to one prompt.

    Attributes:
        reward_a, reward_b: the rewards; only their difference means something. Z-scores, if the scorer normalizes.
        margin: reward_a - reward_b.
        preferred: "a", "b", or "tie" if the rewards are within 1e-4 of each other.
        probability_a: the probability that a is the preferred one, sigmoid(margin / temperature); the temperature was
            fitted (`calibration.Calibration`). None for a model that nothing was fitted for.
        within_noise: whether, with margins so small, the model was not shown to be better than chance on
            pairs new to it. None for a model that nothing was fitted for.
    """

    reward_a: float
    reward_b: float
    margin: float
    preferred: str
    probability_a: float | None
    within_noise: bool | None


@dataclass(frozen=True)
class RankedResponse:
    """A response in a ranking.

    Attributes:
        index: its place among the responses given, from 0.
        response: its text.
        reward: its reward.
        probability: the probability that it is preferred to the first of the ranking; 0.5 for the first itself. None as
            in `Comparison`.
        within_noise: as in `Comparison`, beside the first of the ranking.
    """

    index: int
    response: str
    reward: float
    probability: float | None
    within_noise: bool | None


class Backend(Protocol):
    """What computes rewards from token ids."""

    name: str

    def score(self, groups: Sequence[Group], batch_size: int) -> Iterator[tuple[int, list[float]]]:
        """Yield each group's number and the rewards of its sequences, in any order of the groups."""
        ...

    def token_values(self, ids: TokenIds) -> list[float]:
        """The reward head read at every token of a sequence; at the last one it is the reward.

        Raises:
            UserError: the backend cannot do it.
        """
        ...


@dataclass(frozen=True)
class Scorer:
    """A reward model with its scoring contract. One thread computes at a time, the others wait.

    Attributes:
        batch_size: prompts computed at a time, with up to eight of their responses. Rewards do not depend on it.
        fingerprint: differs for scorers whose rewards may differ.
        calibration: what the rewards that it gives are worth.
        z_scores_by: has the mean and the deviation by which rewards are made z-scores; None: they stay logits.
    """

    backend: Backend
    encoder: Encoder
    calibration: Calibration
    batch_size: int
    fingerprint: str
    z_scores_by: Calibration | None = None
    _lock: Lock = field(default_factory=Lock, repr=False)

    def encode(self, prompt: Prompt, responses: Sequence[str]) -> EncodedResponses:
        """The token ids of each response to `prompt`. If one is too long, all are cut alike.

        Raises:
            UserError: the prompt is no chat, there are no responses, one is no text or cannot be encoded, or the chat
                template refuses the prompt.
        """
        messages = as_messages(prompt)
        if not responses:
            raise UserError("there are no responses")
        for response in responses:
            if not isinstance(response, str):
                raise UserError(f"a response must be text, not {type(response).__name__}")
        if not all(is_unicode(text) for text in (*responses, *(turn["content"] for turn in messages))):
            raise UserError("the text holds half of a character (a lone surrogate), which no tokenizer takes")
        try:
            return self.encoder.encode(messages, responses)
        except TemplateRefuses as error:
            raise UserError(str(error)) from None

    def rewards(self, groups: Sequence[Group]) -> list[list[float]]:
        """The rewards of the ids that `encode` gave: of each group's responses, in their order."""
        # Equal responses are computed once, so that their rewards are equal to the last digit.
        distinct = [list(dict.fromkeys(map(tuple, group))) for group in groups]
        sequences = [list(map(list, group)) for group in distinct]
        with self._lock:
            found = self.backend.score(sequences, self.batch_size)
            scores = {number: dict(zip(distinct[number], of_group, strict=True)) for number, of_group in found}
        rewards = [[scores[number][tuple(ids)] for ids in group] for number, group in enumerate(groups)]
        return [list(map(self.z_scores_by.z_score, group)) for group in rewards] if self.z_scores_by else rewards

    def token_values(self, ids: TokenIds) -> list[float]:
        """The reward head read at every token of a sequence, in the unit of the rewards; `Backend.token_values`."""
        with self._lock:
            values = self.backend.token_values(ids)
        return list(map(self.z_scores_by.z_score, values)) if self.z_scores_by else values

    def compare(self, reward_a: float, reward_b: float) -> Comparison:
        """What two rewards for one prompt say."""
        margin = reward_a - reward_b
        tolerance = TIE_TOLERANCE / self.z_scores_by.reward_std if self.z_scores_by else TIE_TOLERANCE
        calibrated = self.calibration.pairs > 0
        return Comparison(
            reward_a=reward_a,
            reward_b=reward_b,
            margin=margin,
            preferred="tie" if abs(margin) <= tolerance else "a" if margin > 0 else "b",
            probability_a=self.calibration.probability(margin) if calibrated else None,
            within_noise=abs(margin) <= max(tolerance, self.calibration.noise_margin) if calibrated else None,
        )

    def rank(self, responses: Sequence[str], rewards: Sequence[float]) -> list[RankedResponse]:
        """The responses, the best first; equal ones in their order."""
        best = max(rewards)
        ranked = []
        for index in sorted(range(len(rewards)), key=lambda index: -rewards[index]):
            beside_best = self.compare(rewards[index], best)
            ranked.append(
                RankedResponse(
                    index, responses[index], rewards[index], beside_best.probability_a, beside_best.within_noise
                )
            )
        return ranked
