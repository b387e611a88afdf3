"""Importing this module sets what torch and the Hugging Face libraries read when they are imported: import it first.

Defaults only: what the user has set is kept. fetch.py leaves it out, since it may go to the hub.
"""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager


def _keep_freed_memory() -> None:
    """Have glibc reuse freed memory: handing it back costs a page fault for every page of the next batch.

    Numbers of the options: `malloc.h` of glibc (M_TRIM_THRESHOLD -1, M_MMAP_MAX -4).
    """
    if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)
        libc.mallopt(-1, 2**31 - 1)


@contextmanager
def hub_reachable() -> Iterator[None]:
    """Let the Hugging Face libraries reach the hub while the block runs, unless the user has said otherwise."""
    from huggingface_hub import constants  # seldom wanted, and slow to import

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before and not _IS_OFFLINE_BY_DEFAULT
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


_IS_OFFLINE_BY_DEFAULT = os.environ.keys().isdisjoint({"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"})
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers' bars for loading and saving weights too
_keep_freed_memory()
