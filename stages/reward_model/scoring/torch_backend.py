"""Rewards computed by torch: on any device, with shared prefixes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from reward_model.contract.encoder import Encoder, Group, TokenIds
from reward_model.modeling.batching import MAX_RESPONSES_PER_GROUP, padded_batch
from reward_model.modeling.forward import PROBE, get_layout, hidden_states, to_device
from reward_model.modeling.head import read_rewards
from reward_model.modeling.model import load_reward_model, load_reward_model_made_elsewhere
from reward_model.scoring.inference import prepare_for_scoring, score_groups
from reward_model.scoring.model_folder import is_made_here
from reward_model.scoring.shared_prompts import merge_groups


class TorchBackend:
    """A trained model, ready to score.

    Args:
        model: on its device, after `prepare_for_scoring`.
        pad_token_id: the contract's.
    """

    def __init__(self, model: PreTrainedModel, pad_token_id: int) -> None:
        self.model = model
        self.pad_token_id = pad_token_id
        self.name = f"torch, {model.device.type}, {str(model.dtype).removeprefix('torch.')}"

    @classmethod
    def load(cls, folder: Path, device: str, precision: str) -> tuple["TorchBackend", Encoder]:
        """Load a trained or exported model, or a reward model made elsewhere.

        Raises:
            UserError: there is no reward model in `folder`, its files are not those that were saved, or the device is
                not on this machine.
        """
        load = load_reward_model if is_made_here(folder) else load_reward_model_made_elsewhere
        model, encoder = load(folder)
        pad_token_id = encoder.contract.pad_token_id
        prepare_for_scoring(model, PROBE, pad_token_id, device, precision)
        return cls(model, pad_token_id), encoder

    def score(self, groups: Sequence[Group], batch_size: int) -> Iterator[tuple[int, list[float]]]:
        """Yield each group's number and the rewards of its sequences."""
        if get_layout(self.model) is padded_batch:  # it shares no prompts
            yield from score_groups(self.model, groups, self.pad_token_id, batch_size)
            return
        merged = merge_groups(groups, MAX_RESPONSES_PER_GROUP)
        together = [[sequence for number in of_one for sequence in groups[number]] for of_one in merged]
        for place, rewards in score_groups(self.model, together, self.pad_token_id, batch_size):
            of_sequences = iter(rewards)
            for number in merged[place]:
                yield number, [next(of_sequences) for _ in groups[number]]

    @torch.inference_mode()
    def token_values(self, ids: TokenIds) -> list[float]:
        """The reward head read at every token of a sequence; at the last one it is the reward."""
        batch = to_device(padded_batch([[ids]], self.pad_token_id), self.model.device)
        states = hidden_states(self.model, **{name: batch[name] for name in batch if name not in ("rows", "ends")})
        return read_rewards(self.model, states[0]).tolist()
