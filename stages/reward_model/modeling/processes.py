"""The processes of a launch: which of them this is, and what each of them has found."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch.distributed as dist

from reward_model.common.errors import UserError, first_line

T = TypeVar("T")

# What gloo and NCCL say of a process that is gone; not all of it has a type of its own.
SIGNS = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")


def rank() -> int:
    """The number of this process among all of the launch; 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """The number of this process among those of its node; 0 without a launcher."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def gather(value: T) -> list[T]:
    """The value of each process, by rank; all meet here. Without a process group, that of this one.

    Raises:
        UserError: another process has ended.
    """
    if not dist.is_initialized():
        return [value]
    values = [value] * dist.get_world_size()
    with telling_of_lost_processes():
        dist.all_gather_object(values, value)
    return values


@contextmanager
def telling_of_lost_processes() -> Iterator[None]:
    """Tell of a process that has ended, which those that wait for it find out, as a `UserError`."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or any(sign in str(error).lower() for sign in SIGNS)):
            raise
        raise UserError(
            f"another process of the launch has ended, and its output says why ({first_line(error)}); "
            "the same command resumes from the last checkpoint"
        ) from None
