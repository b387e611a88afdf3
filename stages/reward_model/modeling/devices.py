"""Which device and which precision to compute in."""

import os
from collections.abc import Mapping
from typing import Any

import torch

from reward_model.common.errors import UserError


def choose_device(wanted: str) -> torch.device:
    """Resolve the name of a device; `auto` is cuda, else mps, else cpu.

    Raises:
        UserError: the device is not on this machine.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    if not available.get(wanted):
        names = ", ".join(name for name, there in available.items() if there)
        raise UserError(f"the device {wanted} is not on this machine (it has {names}): take auto")
    return torch.device(wanted)


def world_size() -> int:
    """How many processes the launcher has started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def fsdp_enabled() -> bool:
    """Whether the launcher has asked for a model whose weights are sharded over the processes (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """Resolve `train.precision`; `auto` is bfloat16 where the hardware multiplies it fast, else float32.

    Accelerators are not to be trusted with it before `device_check.choose_compute` has looked.
    """
    fast = wanted == "bf16" or (wanted == "auto" and _is_fast_at_bfloat16(device))
    return torch.bfloat16 if fast else torch.float32


def _is_fast_at_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return _cpu_is_fast_at_bfloat16(torch.cpu.get_capabilities())
    return torch.backends.mps.is_macos_or_newer(14, 0)  # older ones have no bfloat16


def _cpu_is_fast_at_bfloat16(capabilities: Mapping[str, Any]) -> bool:
    # Without AMX, as many virtual machines have them, Intel's multiply bfloat16 at half the rate of float32 (measured).
    on_intel = str(capabilities.get("cpu_name", "")).startswith("Intel")
    return bool(capabilities.get("amx_bf16") or (capabilities.get("avx512_bf16") and not on_intel))
