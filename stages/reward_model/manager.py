"""The Python API: load a trained reward model, score a text, compare responses."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from reward_model.devices import choose_device, choose_dtype
from reward_model.encoding import Encoder, TemplateRefuses
from reward_model.errors import UserError
from reward_model.model import load_reward_model, prepare_for_scoring, score_groups
from reward_model.pairs import Message

Prompt = str | Sequence[Message]

# Rewards closer than this are the same to within what computing them in another order changes.
TIE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Comparison:
    """Two responses to one prompt.

    Attributes:
        reward_a, reward_b: the rewards; only their difference means something.
        margin: reward_a - reward_b.
        preferred: "a", "b", or "tie" if the rewards are within 1e-4 of each other.
        probability_a: sigmoid(margin), the model's probability that people prefer a (Bradley-Terry).
    """

    reward_a: float
    reward_b: float
    margin: float
    preferred: str
    probability_a: float


class RewardModelManager:
    """A trained reward model, ready to score. Rewards are in logits: a margin of 1 means odds of e to 1."""

    def __init__(self, device: str = "auto", precision: str = "fp32") -> None:
        """Choose where to compute.

        Args:
            device: auto, cuda, mps or cpu.
            precision: fp32, bf16, or auto (bf16 where the hardware is fast at it).

        Raises:
            UserError: the device is not on this machine.
        """
        self.device = choose_device(device)
        self.dtype = choose_dtype(precision, self.device)
        self._model: PreTrainedModel | None = None
        self._encoder: Encoder | None = None

    def load_trained_model(self, path: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Load the model that the scores come from.

        Returns:
            The sequence classifier (one label) and its tokenizer, whose chat template is part of the contract.

        Raises:
            UserError: there is no readable trained model in `path`.
        """
        self._model, self._encoder = load_reward_model(Path(path))
        prepare_for_scoring(self._model, self.device, self.dtype)
        return self._model, self._encoder.tokenizer

    def get_reward_score(self, text: str, prompt: Prompt = "") -> float:
        """The reward of `text` as the assistant's answer to `prompt` (a user's message, or a chat; "": none).

        Raises:
            UserError: no model is loaded, the text cannot be encoded, or the chat template refuses the prompt.
        """
        return self.rank_responses(prompt, [text])[0]

    def compare_responses(self, prompt: Prompt, response_a: str, response_b: str) -> Comparison:
        """Say which of two responses to `prompt` the model prefers.

        Raises:
            UserError: as `get_reward_score`.
        """
        reward_a, reward_b = self.rank_responses(prompt, [response_a, response_b])
        margin = reward_a - reward_b
        preferred = "tie" if abs(margin) <= TIE_TOLERANCE else "a" if margin > 0 else "b"
        return Comparison(reward_a, reward_b, margin, preferred, float(torch.sigmoid(torch.tensor(margin))))

    def rank_responses(self, prompt: Prompt, responses: Sequence[str]) -> list[float]:
        """The rewards of several responses to one prompt, in their order. All are cut alike if one is too long.

        Raises:
            UserError: as `get_reward_score`.
        """
        if self._model is None or self._encoder is None:
            raise UserError('no model is loaded: call load_trained_model("models/export") first')
        messages = _as_messages(prompt)
        try:
            encoded = self._encoder.encode(messages, responses)
        except (TemplateRefuses, UnicodeEncodeError, TypeError) as error:
            raise UserError(f"the text cannot be scored: {error}") from None
        [(_, scores)] = score_groups(self._model, [encoded.ids], self._encoder.contract.pad_token_id, batch_size=1)
        return scores


def _as_messages(prompt: Prompt) -> list[Message]:
    if isinstance(prompt, str):
        return [Message(role="user", content=prompt)] if prompt.strip() else []
    return list(prompt)
