"""Rewards and features of many sequences, each computed once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PreTrainedModel

from reward_model.contract.encoder import Group
from reward_model.data.features import PairFeatures
from reward_model.modeling.batching import (
    MAX_RESPONSES_PER_GROUP,
    distinct_groups,
    masked_batch,
    packed_length,
    padded_batch,
)
from reward_model.modeling.busy_processor import share_processor
from reward_model.modeling.depth import states_at_depths
from reward_model.modeling.device_check import choose_compute
from reward_model.modeling.forward import get_layout, rewards, share_prefixes, to_device
from reward_model.modeling.head import reward_head

MAX_MASKED_TOKENS = 4096  # tokens; a mask grows with their square


def prepare_for_scoring(
    model: PreTrainedModel, groups: Sequence[Group], pad_token_id: int, device: str, precision: str
) -> None:
    """Move the model to where it computes best of what is wanted; prompts are shared where it can.

    Args:
        model: in float32 on the CPU. Its weights get the precision, but the head's stay float32.
        groups: some that the device is checked with.
        pad_token_id: the contract's.
        device: auto, cuda, mps or cpu.
        precision: auto, bf16 or fp32.

    Raises:
        UserError: the device is not on this machine.
    """
    compute = choose_compute(model, groups, pad_token_id, device, precision)
    share_processor()
    torch.nn.Module.to(model, device=compute.device)
    # Weights only: the buffers hold the rotary frequencies, and positions would be wrong in half precision.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(compute.dtype)
    reward_head(model).float()
    model.eval()
    share_prefixes(model, compute.device)


def score_groups(
    model: PreTrainedModel, groups: Sequence[Group], pad_token_id: int, batch_size: int
) -> Iterator[tuple[int, list[float]]]:
    """Yield each group's number and its sequences' rewards, longest first: if memory runs short, it does so at once.

    Args:
        model: the reward model, after `prepare_for_scoring`.
        groups: sequences that share a prompt; a pair, a single sequence, or n responses.
        pad_token_id: the contract's.
        batch_size: groups computed at a time; of a group with many sequences, `MAX_RESPONSES_PER_GROUP` count as one.
    """
    return _by_group(lambda **batch: rewards(model, **batch).tolist(), model, groups, pad_token_id, batch_size)


def score_sides(
    model: PreTrainedModel, rows: Sequence[Mapping[str, Any]], pad_token_id: int, batch_size: int, name: str
) -> tuple[list[float], list[float]]:
    """The rewards of the chosen and of the rejected sequence of each row of data/tokens, each response computed once.

    Args:
        model: the reward model, after `prepare_for_scoring`.
        rows: a set's.
        pad_token_id: the contract's.
        batch_size: prompts computed at a time.
        name: of the progress bar.
    """
    groups, places = distinct_groups(rows)
    found = dict(
        tqdm(score_groups(model, groups, pad_token_id, batch_size), total=len(groups), unit="prompt", desc=name)
    )
    chosen, rejected = ([found[group][place] for group, place in of_side] for of_side in zip(*places, strict=True))
    return chosen, rejected


def compute_features(
    model: PreTrainedModel,
    rows: Sequence[Mapping[str, Any]],
    pad_token_id: int,
    batch_size: int,
    depths: Sequence[int],
    name: str,
) -> PairFeatures:
    """The hidden states of the responses of rows of data/tokens at some depths, in one pass, each response once.

    Args:
        model: with all its layers, after `prepare_for_scoring`.
        rows: a set's.
        pad_token_id: the contract's.
        batch_size: groups computed at a time.
        depths: of `modeling.depth.available_depths`.
        name: of the progress bar.
    """
    groups, places = distinct_groups(rows)
    starts = [0, *accumulate(map(len, groups))]

    def compute(**batch: torch.Tensor) -> NDArray[np.float32]:
        return states_at_depths(model, depths, **batch).float().cpu().numpy()

    states: NDArray[np.float32] | None = None
    found = _by_group(compute, model, groups, pad_token_id, batch_size)
    for number, of_group in tqdm(found, total=len(groups), unit="prompt", desc=name):
        if states is None:
            states = np.empty((len(depths), starts[-1], of_group[0].shape[-1]), dtype=np.float32)
        states[:, starts[number] : starts[number + 1]] = np.stack(of_group, axis=1)
    assert states is not None
    sides = np.array([[starts[group] + place for group, place in of_row] for of_row in places], dtype=np.int64)
    return PairFeatures(np.array(depths, dtype=np.int64), states, sides)


@torch.inference_mode()
def _by_group(
    compute: Callable[..., Iterable[Any]],
    model: PreTrainedModel,
    groups: Sequence[Group],
    pad_token_id: int,
    batch_size: int,
) -> Iterator[tuple[int, list[Any]]]:
    parts = [
        (number, start)
        for number, group in enumerate(groups)
        for start in range(0, len(group), MAX_RESPONSES_PER_GROUP)
    ]
    sequences = {part: groups[part[0]][part[1] : part[1] + MAX_RESPONSES_PER_GROUP] for part in parts}
    order = sorted(parts, key=lambda part: -packed_length(sequences[part]))
    found: dict[int, dict[int, Any]] = {number: {} for number in range(len(groups))}
    for first in range(0, len(order), batch_size):
        own = order[first : first + batch_size]
        layout = get_layout(model)
        if layout is masked_batch and packed_length(sequences[own[0]]) > MAX_MASKED_TOKENS:
            layout = padded_batch
        batch = layout([sequences[part] for part in own], pad_token_id)
        of_sequences = iter(compute(**to_device(batch, model.device)))
        for number, start in own:
            found[number] |= {start + place: next(of_sequences) for place in range(len(sequences[number, start]))}
            if len(found[number]) == len(groups[number]):
                of_group = found.pop(number)
                yield number, [of_group[place] for place in sorted(of_group)]
