"""Which checkpoint all processes of a launch resume from, also where their nodes share no file system."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import torch.distributed as dist

from reward_model.common.errors import UserError
from reward_model.common.files import CHECKSUMS_FILE, hash_file, writing
from reward_model.modeling.devices import fsdp_enabled, world_size
from reward_model.modeling.processes import gather, local_rank, rank, telling_of_lost_processes
from reward_model.training.checkpoints import Checkpoints

PIECE = 2**26  # bytes that are sent at a time


@contextmanager
def agreed_checkpoint(checkpoints: Checkpoints) -> Iterator[Path | None]:
    """The newest whole checkpoint of all nodes, on each of them while the context lasts; None if there is none.

    A node that does not have it, because it shares no file system with the one that has, is sent a copy.

    Raises:
        UserError: with FSDP the nodes share no file system, so that each would have but its own shares.
    """
    latest = checkpoints.latest() if local_rank() == 0 else None
    if world_size() == 1:
        yield latest
        return
    if fsdp_enabled():
        _require_shared(checkpoints.staging)
    found = gather(None if latest is None else (checkpoints.step(latest), hash_file(latest / CHECKSUMS_FILE)))
    newest = max((each for each in found if each is not None), default=None)
    if newest is None:
        yield None
        return
    kept, copy = checkpoints.path(newest[0]), checkpoints.folder / ".copy"
    on_this_node = found[rank() - local_rank()] == newest
    if not all(gather(on_this_node)):
        _send(kept, None if on_this_node or local_rank() else copy, found.index(newest))
    try:
        yield kept if on_this_node else copy
    finally:
        if local_rank() == 0:
            shutil.rmtree(copy, ignore_errors=True)


def _require_shared(folder: Path) -> None:
    """Make sure that the main process and this one have the same folder."""
    name = gather(uuid4().hex)[0]
    if rank() == 0:
        (folder / name).touch()
    gather(None)
    if not all(gather((folder / name).exists())):
        raise UserError(
            f"with FSDP all nodes need the same {folder.parent.parent}, for each process writes its share of a "
            "checkpoint there: put the project on a file system that they share"
        )


def _send(folder: Path, target: Path | None, source: int) -> None:
    """Copy the files of a folder of the process `source` to all processes that have a target.

    Raises:
        UserError: the target cannot be written to.
    """
    pieces = _pieces(folder) if rank() == source else iter(())
    if target is not None:
        shutil.rmtree(target, ignore_errors=True)
        with writing(target):
            target.mkdir()
    while True:
        piece = [next(pieces, None)]
        with telling_of_lost_processes():
            dist.broadcast_object_list(piece, src=source)
        if piece[0] is None:
            break
        name, content = piece[0]
        if target is not None:
            with writing(target), (target / name).open("ab") as file:
                file.write(content)
    gather(None)  # the copy is whole


def _pieces(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a folder, by name, a piece at a time."""
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            while content := file.read(PIECE):
                yield path.name, content
