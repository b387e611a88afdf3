"""How the processes of a launch come together: all of them, with the same inputs, before anything is computed."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from reward_model.common.errors import UserError, first_line
from reward_model.modeling.devices import world_size
from reward_model.modeling.processes import local_rank, rank

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

START = timedelta(minutes=10)  # to wait for processes that read their inputs more slowly
STEP = timedelta(minutes=30)  # to wait in training, while one process writes a checkpoint
DEVICE = "device"  # the fact that decides how processes send each other tensors
SHOWN = 5  # names of facts that differ, in a message

Facts = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """What a process tells the others.

    Attributes:
        place: its rank and host, for people.
        failure: why it cannot train.
        facts: what must be the same everywhere.
    """

    place: str
    failure: str | None
    facts: Facts


@contextmanager
def joining_processes() -> Iterator[Facts]:
    """Prepare a training, and go on once all processes of the launch have done so with the same facts.

    Yields:
        To be filled with what must be the same everywhere, by name: params, versions, hashes of inputs, and `DEVICE`.

    Raises:
        UserError: a process could not prepare, does not come, or has other facts. The first process of each node says
            so, the others end without a word.
    """
    facts: Facts = {}
    if world_size() == 1:
        yield facts
        return
    failure = None
    try:
        yield facts
    except UserError as error:
        failure = str(error)
    try:
        store, *_ = next(rendezvous("env://", timeout=START))
        reports = _exchange(store, Report(f"process {rank()} on {socket.gethostname()}", failure, facts))
        fault = find_fault(reports)
        if fault is None:
            _start_group(store, facts[DEVICE])
    except RuntimeError as error:  # of torch's store and groups
        fault = failure or f"the processes of the launch cannot reach each other: {first_line(error)}"
    if fault is not None:
        raise UserError(fault) if local_rank() == 0 else SystemExit(1)


def part_processes() -> None:
    """Leave the others: from here on this process computes alone."""
    if dist.is_initialized():
        dist.destroy_process_group()


def find_fault(reports: list[Report | None]) -> str | None:
    """Why the processes that have given these reports, by rank, cannot train together; None if they can."""
    missing = [str(number) for number, report in enumerate(reports) if report is None]
    came = [report for report in reports if report is not None]
    failures = [f"{report.failure} ({report.place})" for report in came if report.failure is not None]
    if failures:
        return failures[0]
    if missing:
        return (
            f"of {len(reports)} processes these have not come within {START.seconds // 60} minutes: "
            f"{', '.join(missing)}; their own output says why"
        )
    first = came[0]
    for other in came[1:]:
        names = sorted(first.facts.keys() | other.facts.keys())
        differing = [name for name in names if first.facts.get(name) != other.facts.get(name)]
        if differing:
            more = f" and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
            return (
                f"{other.place} differs from {first.place} in {', '.join(differing[:SHOWN])}{more}: "
                "copy the project's folder, with what the stages before have made, from one node to the other"
            )
    return None


def _exchange(store: "Store", own: Report) -> list[Report | None]:
    """The report of each process, by rank; None of those that do not come in time."""
    count = world_size()
    store.set(f"report/{rank()}", json.dumps(asdict(own), default=str))
    _wait(store, [f"report/{number}" for number in range(count)])
    came = [store.check([f"report/{number}"]) for number in range(count)]
    reports = [Report(**json.loads(store.get(f"report/{number}"))) if came[number] else None for number in range(count)]
    store.set(f"read/{rank()}", "")
    # The store may live in the first process, and must not end before the others have read it.
    _wait(store, [f"read/{number}" for number in range(count) if came[number]])
    return reports


def _wait(store: "Store", keys: list[str]) -> None:
    """Wait for keys, which may not all come."""
    try:
        store.wait(keys, START)
    except dist.DistError:
        return


def _start_group(store: "Store", device: str) -> None:
    """Connect the processes; tensors on CPUs can be sent whatever the device is."""
    if device == "cuda":
        torch.cuda.set_device(local_rank() % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank(), world_size=world_size(), timeout=STEP)
