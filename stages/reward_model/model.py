"""The reward model: a sequence classifier with one label. Built, loaded, saved and asked for rewards here."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, PreTrainedModel, set_seed
from transformers.utils import logging

from reward_model.attention import MASKED, PACKED, spans_of
from reward_model.batching import Batch, Layout, masked_batch, packed_batch, packed_length, padded_batch
from reward_model.encoding import Encoder, Group
from reward_model.errors import UserError
from reward_model.files import check_checksums, missing_input, read_json

HEAD = "score"  # what transformers calls the last layer of a sequence classifier

# The layouts in which responses share their prefix, by the attention that goes with them.
SHARED_PREFIX: dict[str, Layout] = {PACKED: packed_batch, MASKED: masked_batch}
LONGEST_MASKED = 4096  # tokens; a mask grows with their square

# Where a model can share prefixes, the hidden states of the layouts differ by rounding only: about a millionth in
# float32, a hundredth in half precision.
TOLERANCE = 1e-4
TOLERANCE_HALF = 0.1
PROBE: list[Group] = [([1, 2, 3, 4, 5], [1, 2, 6]), ([5, 4, 3],)]  # any tokens do


def build_reward_model(base: Path, encoder: Encoder, seed: int) -> PreTrainedModel:
    """A float32 sequence classifier on the weights of `base`, its reward head zero.

    A random head pulls the features in a random direction before it has learned which of them tell the pairs apart
    (Kumar et al. 2022, arXiv:2202.10054); from zero it learns that first.

    Raises:
        UserError: `base` is no causal language model that transformers can read.
    """
    set_seed(seed)
    model, missing = _from_pretrained(base)
    if missing := missing - {f"{HEAD}.weight"}:
        raise UserError(f"{base} lacks weights of its architecture: {_some(missing)}")
    torch.nn.init.zeros_(reward_head(model).weight)
    model.config.problem_type = "regression"  # so that transformers' pipeline gives the reward, not its sigmoid
    model.config.pad_token_id = encoder.contract.pad_token_id
    model.config.eos_token_id = encoder.contract.end_token_id
    tokens = encoder.tokenizer.get_vocab_size(with_added_tokens=True)
    if tokens > model.config.vocab_size:
        model.resize_token_embeddings(tokens)
    return model


def load_reward_model(folder: Path) -> tuple[PreTrainedModel, Encoder]:
    """Load a trained model in float32, ready to score, with its encoder.

    Raises:
        UserError: no trained model is there, or its files are not those that were saved.
    """
    if not (folder / "config.json").exists():
        raise UserError(f"no trained model in {folder}: run `make repro`, which trains one")
    check_checksums(folder, unread=(".onnx", ".data"))
    encoder = Encoder.load(folder)
    saved = read_json(folder / "config.json").get("dtype")
    if saved != encoder.contract.precision:
        raise UserError(f"{folder}: the weights are {saved}, the scoring contract says {encoder.contract.precision}")
    model, missing = _from_pretrained(folder)
    if missing:
        raise UserError(f"{folder} is not a trained reward model, it lacks {_some(missing)}: run `dvc repro`")
    return model.eval(), encoder


def reward_head(model: torch.nn.Module) -> torch.nn.Linear:
    """The layer that makes a reward of a hidden state."""
    return cast(torch.nn.Linear, model.get_submodule(HEAD))


def rewards(model: PreTrainedModel, **batch: torch.Tensor) -> torch.Tensor:
    """The reward of every sequence of a batch, in float32, shape (N,). The head is computed in float32 always.

    Args:
        model: the reward model; for packed and masked batches after `share_prefixes`.
        batch: the fields of a batch of `batching`.
    """
    last = last_states(model, **batch)
    with torch.autocast(last.device.type, enabled=False):
        # A copy, since FSDP does not want views.
        return reward_head(model)(last.float()).squeeze(-1).clone()


def last_states(
    model: PreTrainedModel, *, rows: torch.Tensor, ends: torch.Tensor, **batch: torch.Tensor
) -> torch.Tensor:
    """The hidden states (N, size) of the sequences' last tokens."""
    return hidden_states(model, **batch)[rows, ends]


def hidden_states(
    model: PreTrainedModel,
    *,
    input_ids: torch.Tensor,
    position_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    **groups: torch.Tensor,
) -> torch.Tensor:
    """The last layer's states (rows, T, size); the arguments are the fields of a batch without `rows` and `ends`."""
    options: dict[str, Any] = {"attention_mask": attention_mask}
    if groups:
        spans = spans_of(groups["prefix_lengths"], groups["rest_lengths"], groups["group_sizes"], input_ids.device)
        # transformers passes a four-dimensional mask on as it is; without one it would build T x T for nothing.
        options = {"attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=input_ids.device), "spans": spans}
    output = model.base_model(input_ids=input_ids, position_ids=position_ids, use_cache=False, **options)
    return output.last_hidden_state


def share_prefixes(model: PreTrainedModel, device: torch.device) -> Layout:
    """Set the model up for batches with shared prefixes if its hidden states are then those it has row by row.

    Args:
        model: the reward model, on any device.
        device: where it will compute. CPUs take packed batches, others masked ones.

    Returns:
        The layout for its batches: padded ones, with the model as it was, for architectures that attend in ways of
        their own (state-space layers, sliding windows).
    """
    attention = PACKED if device.type == "cpu" else MASKED
    padded, shared = (to_device(layout(PROBE, 0), model.device) for layout in (padded_batch, SHARED_PREFIX[attention]))
    with torch.no_grad(), _in_eval_mode(model):
        expected = last_states(model, **padded)
        try:
            model.set_attn_implementation(attention)
            found = last_states(model, **shared)
        except (ValueError, RuntimeError, TypeError):
            found = torch.full_like(expected, torch.inf)
    tolerance = TOLERANCE if model.dtype == torch.float32 else TOLERANCE_HALF
    if not (found - expected).norm() <= tolerance * expected.norm():
        model.set_attn_implementation("sdpa")
    return layout_of(model)


def layout_of(model: PreTrainedModel) -> Layout:
    """The layout that `share_prefixes` has set the model up for."""
    return SHARED_PREFIX.get(str(model.config._attn_implementation), padded_batch)


def score_groups(
    model: PreTrainedModel, groups: Sequence[Group], pad_token_id: int, batch_size: int
) -> Iterator[tuple[int, list[float]]]:
    """Yield each group's number and its sequences' rewards, longest first: if memory runs short, it does so at once.

    Args:
        model: the reward model, after `prepare_for_scoring`.
        groups: sequences that share a prompt; a pair, a single sequence, or n responses.
        pad_token_id: the contract's.
        batch_size: groups computed at a time.
    """
    return _by_group(partial(rewards, model), model, groups, pad_token_id, batch_size)


def features_of_groups(
    model: PreTrainedModel, groups: Sequence[Group], pad_token_id: int, batch_size: int
) -> Iterator[tuple[int, list[list[float]]]]:
    """As `score_groups`, with what the reward head would see of each sequence: the last hidden state, (size,)."""
    return _by_group(lambda **batch: last_states(model, **batch).float(), model, groups, pad_token_id, batch_size)


@torch.inference_mode()
def _by_group(
    compute: Callable[..., torch.Tensor],
    model: PreTrainedModel,
    groups: Sequence[Group],
    pad_token_id: int,
    batch_size: int,
) -> Iterator[tuple[int, list[Any]]]:
    order = sorted(range(len(groups)), key=lambda number: -packed_length(groups[number]))
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        layout = layout_of(model)
        if layout is masked_batch and packed_length(groups[numbers[0]]) > LONGEST_MASKED:
            layout = padded_batch
        batch = layout([groups[number] for number in numbers], pad_token_id)
        of_sequences = iter(compute(**to_device(batch, model.device)).tolist())
        for number in numbers:
            yield number, [next(of_sequences) for _ in groups[number]]


def prepare_for_scoring(model: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> None:
    """Move the model to `device` and its weights to `dtype` (the head's stay float32); shared prefixes where it can."""
    torch.nn.Module.to(model, device=device)
    # Weights only: the buffers hold the rotary frequencies, and positions would be wrong in half precision.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    reward_head(model).float()
    model.eval()
    share_prefixes(model, device)


def save_reward_model(
    model: PreTrainedModel, encoder: Encoder, folder: Path, weights: dict[str, torch.Tensor] | None = None
) -> None:
    """Write safetensors, config, tokenizer and scoring contract into `folder`; `weights`, if the model lacks them.

    Raises:
        UserError: a weight is not finite.
    """
    if not all(tensor.isfinite().all() for tensor in (weights or model.state_dict()).values()):
        raise UserError(
            "the weights are not finite after the last step: lower train.learning_rate, or set train.precision: fp32"
        )
    # The folder the base came from says nothing to a reader of the config.
    model.config._name_or_path = ""
    model.save_pretrained(folder, state_dict=weights)
    for path in encoder.folder.iterdir():
        shutil.copyfile(path, folder / path.name)


def _from_pretrained(folder: Path) -> tuple[PreTrainedModel, set[str]]:
    """The model, and the names of the weights that its files lack, which are random."""
    if not (folder / "config.json").exists():  # transformers would look for it on the hub, and tell of that
        raise missing_input(folder / "config.json")
    try:
        with _quiet():
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                folder,
                num_labels=1,
                dtype=torch.float32,
                attn_implementation="sdpa",
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
        return model, set(loading["missing_keys"])
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} is not a model that can be loaded: {str(error).strip().splitlines()[0]}") from None


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`."""
    return {name: tensor.to(device) for name, tensor in batch.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' report of what it loaded: what matters of it is checked."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@contextmanager
def _in_eval_mode(model: PreTrainedModel) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
