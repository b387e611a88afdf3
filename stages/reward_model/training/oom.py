"""What to give up when memory runs out, a little at a time, without changing what is computed."""

import gc
from dataclasses import dataclass

import torch
from accelerate.utils.memory import clear_device_cache

# PyTorch has no type of its own for what Apple's GPUs and CPUs say.
SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate", "status_alloc_failed")


class DeviceFailed(Exception):
    """The accelerator cannot go on; the message says what it said."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def release_memory() -> None:
    """Give back what nothing holds any more, to the device too."""
    gc.collect()
    clear_device_cache()


@dataclass
class MemoryFallback:
    """How a micro-batch is computed.

    Attributes:
        pairs: computed at a time.
        checkpointing: whether activations are computed again in the backward pass.
    """

    pairs: int
    checkpointing: bool

    def step_down(self) -> str | None:
        """Need less: half the pairs, then gradient checkpointing; says what was done, None if nothing is left."""
        if self.pairs > 1:
            self.pairs = -(-self.pairs // 2)
            return f"{self.pairs} pair{'s' if self.pairs > 1 else ''} at a time"
        if not self.checkpointing:
            self.checkpointing = True
            return "gradient checkpointing"
        return None
