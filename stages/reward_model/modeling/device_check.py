"""Whether an accelerator computes what the CPU does, asked before anything is entrusted to it.

Apple's GPUs have let half-precision attention see later tokens, and drivers and kernels differ from machine to machine.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from reward_model.common.errors import UserError, first_line
from reward_model.contract.encoder import Group
from reward_model.modeling.batching import Batch
from reward_model.modeling.devices import choose_device, choose_dtype
from reward_model.modeling.forward import hidden_states, last_states, share_prefixes, to_device
from reward_model.modeling.processes import gather, rank

GROUPS = 3  # pairs that are computed on both
PROBED = 64  # parameters, the smallest, whose gradients are compared: they lie all through the model

# Relative differences by which rounding alone may move states and gradients.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.15}
LEAK = 1e-3  # a changed later token may move nothing; kernels may still divide their sums in other ways


@dataclass(frozen=True)
class Compute:
    """Where and how to compute.

    Attributes:
        device, dtype: what was chosen.
        problems: what was wrong with those that were wanted first, a line each.
    """

    device: torch.device
    dtype: torch.dtype
    problems: tuple[str, ...] = ()


def choose_compute(
    model: PreTrainedModel,
    groups: Sequence[Group],
    pad_token_id: int,
    device: str,
    precision: str,
    *,
    gradients: bool = False,
) -> Compute:
    """The wanted device and precision if the device passes the check, else float32 on it, else the CPU.

    Several processes take what passes the check on all of them.

    Args:
        model: in float32 on the CPU, where it stays.
        groups: pairs as token ids; the first few are computed.
        pad_token_id: the contract's.
        device: `train.device`.
        precision: `train.precision`.
        gradients: whether they are checked too.

    Raises:
        UserError: the device is not on this machine, or does not give the model back.
    """
    wanted = choose_device(device)
    dtype = _agreed_dtype(choose_dtype(precision, wanted))
    if wanted.type == "cpu":
        return Compute(wanted, dtype)
    problems: list[str] = []
    for candidate in dict.fromkeys((dtype, torch.float32)):
        found = gather(check_device(model, groups[:GROUPS], pad_token_id, wanted, candidate, gradients=gradients))
        faults = [fault for fault in found if fault is not None]
        if not faults:
            return Compute(wanted, candidate, tuple(problems))
        problems.append(f"{wanted.type} in {str(candidate).removeprefix('torch.')}: {faults[0]}")
        if rank() == 0:
            print(f"the device check failed on {problems[-1]}", file=sys.stderr)
    cpu = torch.device("cpu")
    return Compute(cpu, _agreed_dtype(choose_dtype(precision, cpu)), tuple(problems))


def _agreed_dtype(dtype: torch.dtype) -> torch.dtype:
    """bfloat16 if all processes would have it."""
    return torch.bfloat16 if all(gather(dtype == torch.bfloat16)) else torch.float32


def check_device(
    model: PreTrainedModel,
    groups: Sequence[Group],
    pad_token_id: int,
    device: torch.device,
    dtype: torch.dtype,
    *,
    gradients: bool = True,
) -> str | None:
    """What is wrong with computing `groups` on `device` in `dtype`, in a few words; None if nothing is.

    Raises:
        UserError: the device does not give the model back.
    """
    compute = _states_and_gradients if gradients else _states
    layout = share_prefixes(model, device)
    batch = layout(groups, pad_token_id)
    training = model.training
    model.eval()
    try:
        expected = compute(model, batch, torch.float32)
        model.to(device)  # pyright: ignore[reportArgumentType]
        found = compute(model, to_device(batch, device), dtype)
        for name, one, other in zip(("states", "gradients"), found, expected, strict=False):
            difference = _relative(one, other)
            if not difference <= TOLERANCE[dtype]:
                return f"{name} differ from the CPU's by {difference:.2g} of their size"
        leak = _leak(model, to_device(batch, device), dtype)
        if not leak <= LEAK:
            return f"a later token changes earlier states, by {leak:.2g} of their size"
    except (RuntimeError, TypeError, NotImplementedError) as error:
        return first_line(error)
    finally:
        _bring_back(model, device)
        model.train(training)
    return None


def _bring_back(model: PreTrainedModel, device: torch.device) -> None:
    try:
        model.to("cpu")  # pyright: ignore[reportArgumentType]
    except RuntimeError:
        raise UserError(f"the device {device.type} does not answer any more: set train.device: cpu") from None


@torch.no_grad()
def _states(model: PreTrainedModel, batch: Batch, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """The last states (N, size), on the CPU."""
    with _computing_in(dtype, batch):
        return (last_states(model, **batch).float().cpu(),)


def _states_and_gradients(model: PreTrainedModel, batch: Batch, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """The last states (N, size), and the gradients of their sum along a fixed direction, one vector; on the CPU."""
    probed = sorted(model.base_model.parameters(), key=lambda parameter: parameter.numel())[:PROBED]
    with _computing_in(dtype, batch):
        states = last_states(model, **batch).float()
    direction = torch.linspace(-1, 1, states.shape[-1], device=states.device)
    gradients = torch.autograd.grad((states @ direction).sum(), probed, allow_unused=True)
    flat = torch.cat([gradient.float().flatten() for gradient in gradients if gradient is not None])
    return states.detach().cpu(), flat.cpu()


@torch.no_grad()
def _leak(model: PreTrainedModel, batch: Batch, dtype: torch.dtype) -> float:
    """How much another last token of the first sequence changes what comes before it, and the other sequences."""
    first_end = int(batch["ends"][0])
    changed = batch["input_ids"].clone()
    changed[0, first_end] = (changed[0, first_end] + 1) % int(model.config.get_text_config().vocab_size)
    seen = []
    for ids in (batch["input_ids"], changed):
        inputs = batch | {"input_ids": ids}
        rows, ends = inputs.pop("rows"), inputs.pop("ends")
        with _computing_in(dtype, batch):
            states = hidden_states(model, **inputs).float()
        seen.append(torch.cat([states[0, :first_end], states[rows[1:], ends[1:]]]))
    return _relative(*seen)


def _computing_in(dtype: torch.dtype, batch: Batch) -> torch.autocast:
    return torch.autocast(batch["input_ids"].device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def _relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())
