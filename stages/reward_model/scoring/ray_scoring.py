"""Score shards of rows with the workers of a Ray cluster, each with a model of its own.

This process reads and writes; the workers get windows of rows, of any shard, as they become free. So two of them share
one large file, and one that is killed leaves nothing behind: Ray starts it again, and its windows are computed anew.

Actors instead of Ray Data, whose blocks are Arrow tables: all rows of JSONL would get the same keys and types.
"""

import importlib
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tqdm import tqdm

from reward_model.common.errors import UserError, first_line
from reward_model.data.readers import open_rows
from reward_model.data.row_streams import RowStream, StreamedRow
from reward_model.scoring.file_scoring import (
    FileReport,
    ScoredFile,
    ScoredWindow,
    count_rows,
    rows_done,
    score_window,
    split_windows,
)
from reward_model.scoring.manager import RewardModelManager
from reward_model.scoring.model_folder import model_digest
from reward_model.scoring.shards import Shard, ShardFolder, check_columns, find_shards

QUEUED = 2  # windows that a worker has: one that it computes, one that waits
AHEAD = 8  # windows for each worker that may be scored before the oldest is
KILLS = 20  # of its worker, after which a window is given up
ANSWER_SECONDS = 30  # that a cluster has to answer
CONNECT = "import sys, ray; ray.init(address=sys.argv[1], logging_level='ERROR', log_to_driver=False)"


@dataclass(frozen=True)
class ScorerOptions:
    """How each worker computes: the model's folder, and the arguments of `RewardModelManager`."""

    model: Path
    device: str = "auto"
    precision: str = "fp32"
    batch_size: int = 8
    backend: str = "auto"
    normalize: bool = False
    max_length: int | None = None

    def manager(self) -> RewardModelManager:
        """A manager without a model."""
        return RewardModelManager(
            self.device,
            self.precision,
            self.batch_size,
            self.backend,
            normalize=self.normalize,
            max_length=self.max_length,
        )

    def settings(self) -> dict[str, str | int | None]:
        """What the rewards depend on, in the words of score.py."""
        return {
            "model": model_digest(self.model),
            "--device": self.device,
            "--dtype": self.precision,
            "--batch-size": self.batch_size,
            "--backend": self.backend,
            "--normalize": self.normalize,
            "--max-length": self.max_length,
        }


def score_shards(
    options: ScorerOptions, inputs: Sequence[str], output: Path, workers: int, address: str | None = None
) -> tuple[FileReport, int]:
    """Score files into files of the same names in a folder, with a progress bar on stderr.

    Args:
        options: the model must lie at the same place on all machines.
        inputs: files, folders and patterns.
        output: a new folder, or that of the same call, which goes on where it ended.
        workers: each has a GPU if the cluster has any and the device may be one.
        address: of a Ray cluster, `HOST:PORT` or auto; None starts one on this machine.

    Returns:
        What became of the rows, and how many tokens the model takes.

    Raises:
        UserError: Ray is not installed or does not answer, the cluster has too little for the workers, the output
            folder is of another call, or an input cannot be read, is no data to score, or has other columns.
    """
    options.manager()  # refuses what does not go together
    ray = import_ray()
    shards = find_shards(inputs, output)
    check_columns(shards)
    folder = ShardFolder(output, options.settings(), shards)
    todo = [shard for shard in shards if not folder.is_finished(shard)]
    if todo:
        counts = {shard: count_rows(str(shard.source), "") or 0 for shard in todo}
        done = sum(folder.rows_finished(shard) for shard in shards if shard not in counts)
        with running_ray(ray, address, workers):
            pool = WorkerPool(ray, options, workers)
            folder.begin(pool.fingerprint, pool.max_length)
            for note in pool.notes:
                print(f"note: {note}", file=sys.stderr)
            with tqdm(total=done + sum(counts.values()), initial=done, unit="row") as bar:
                _score(pool, folder, todo, options.batch_size, bar)
    return folder.end(), folder.max_length


def import_ray() -> Any:
    """The library, which nothing else needs.

    Raises:
        UserError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install '.[ray]', or score without --workers") from None


@contextmanager
def running_ray(ray: Any, address: str | None, workers: int) -> Iterator[None]:
    """Connect to the cluster, or start one with this machine's cores, and leave it at the end.

    Raises:
        UserError: it does not answer.
    """
    package = Path(__file__).parents[2]
    options = {
        "logging_level": "ERROR",
        "log_to_driver": False,
        "runtime_env": {"env_vars": {"PYTHONPATH": f"{package}{os.pathsep}${{PYTHONPATH}}"}},
    }
    try:
        if address is None:
            ray.init("local", num_cpus=max(workers, os.cpu_count() or 1), include_dashboard=False, **options)
        else:
            _check_answers(address)
            ray.init(address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"Ray cannot be started: {first_line(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Try to connect in a process of its own: for minutes Ray would neither give up nor be interrupted."""
    command = [sys.executable, "-c", CONNECT, address]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(f"no Ray cluster answers at {address} within {ANSWER_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip() or f"status {error.returncode}").splitlines()[-1]
        raise UserError(f"no Ray cluster answers at {address}: {reason}") from None


def split_resources(nodes: Sequence[Mapping[str, float]], workers: int, use_gpus: bool) -> dict[str, float]:
    """What each worker gets: one GPU if there are any to use, and as many cores as all can have.

    Args:
        nodes: of a cluster, each with its CPU and GPU.
        workers: how many there are to be.
        use_gpus: whether the device may be a GPU.

    Raises:
        UserError: there is too little for all.
    """
    gpus = 1 if use_gpus and any(node.get("GPU", 0) >= 1 for node in nodes) else 0

    def places(cores: int) -> int:
        return sum(int(min(node.get("CPU", 0) // cores, node.get("GPU", 0) if gpus else workers)) for node in nodes)

    fitting = [
        cores for cores in range(1, int(max(node.get("CPU", 0) for node in nodes)) + 1) if places(cores) >= workers
    ]
    if not fitting:
        what = "GPUs and cores" if gpus else "cores"
        raise UserError(f"the Ray cluster has {what} for {places(1)} workers, not for {workers}")
    return {"num_cpus": fitting[-1], "num_gpus": gpus}


class _Worker:
    """An actor with a model, which is loaded when it is first needed: also after the actor was killed."""

    def __init__(self, options: ScorerOptions) -> None:
        self._options = options

    @cached_property
    def _manager(self) -> RewardModelManager:
        manager = self._options.manager()
        manager.load_trained_model(self._options.model)
        return manager

    def describe(self) -> tuple[str, int, tuple[str, ...]]:
        return self._manager.scorer.fingerprint, self._manager.max_length, tuple(self._manager.notes)

    def score(self, stream: RowStream, window: Sequence[StreamedRow]) -> ScoredWindow:
        return score_window(self._manager.scorer, stream, window)


@dataclass(frozen=True)
class Work:
    """A window of a shard.

    Attributes:
        stream: that of the shard, without its rows.
        window: its rows; none after the last window of the shard.
    """

    shard: Shard
    output: ScoredFile
    stream: RowStream
    window: Sequence[StreamedRow]


class WorkerPool:
    """Workers with their models loaded.

    Args:
        ray: the library, connected.
        options: how they compute.
        workers: how many.

    Raises:
        UserError: the cluster has too little for them, a model cannot be loaded, or their rewards may differ.
    """

    def __init__(self, ray: Any, options: ScorerOptions, workers: int) -> None:
        self._ray = ray
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        use_gpus = options.device in ("auto", "cuda") and options.backend != "onnx"
        resources = split_resources(nodes, workers, use_gpus)
        actor = ray.remote(_Worker).options(**resources, max_restarts=-1, max_task_retries=KILLS)
        self._actors = [actor.remote(options) for _ in range(workers)]
        found = {self._result(handle.describe.remote()) for handle in self._actors}
        if len(found) > 1:
            raise UserError(f"the workers compute differently ({', '.join(sorted(map(str, found)))}): set --device")
        [(self.fingerprint, self.max_length, self.notes)] = found

    def score(self, works: Iterable[Work]) -> Iterator[tuple[Work, ScoredWindow | None]]:
        """Yield the windows in their order with what was found; None for the end of a shard."""
        free = deque(self._actors * QUEUED)
        running: dict[Any, Any] = {}  # what each worker has
        waiting: deque[tuple[Work, Any]] = deque()
        for work in works:
            while not free or len(waiting) >= AHEAD * len(self._actors):
                self._wait(running, free)
                yield from self._done(waiting, running)
            task = None
            if work.window:
                worker = free.popleft()
                task = worker.score.remote(work.stream, work.window)
                running[task] = worker
            waiting.append((work, task))
        while waiting:
            yield from self._done(waiting, running)
            if running:
                self._wait(running, free)

    def _wait(self, running: dict[Any, Any], free: deque[Any]) -> None:
        ready, _ = self._ray.wait([*running])
        free.extend(map(running.pop, ready))

    def _done(
        self, waiting: deque[tuple[Work, Any]], running: Mapping[Any, Any]
    ) -> Iterator[tuple[Work, ScoredWindow | None]]:
        while waiting and waiting[0][1] not in running:
            work, task = waiting.popleft()
            yield work, None if task is None else self._result(task)

    def _result(self, task: Any) -> Any:
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError as error:
            # What an actor that cannot even start says ends with the reason, e.g. that the project is not there.
            raise UserError(f"a worker was lost for good: {str(error).strip().splitlines()[-1].strip()}") from None


def _score(pool: WorkerPool, folder: ShardFolder, shards: Iterable[Shard], batch_size: int, bar: "tqdm[Any]") -> None:
    """Score the shards into the folder, in their order."""
    for work, scored in pool.score(_read(folder, shards, pool.fingerprint, batch_size, bar.update)):
        if scored is None:
            folder.finish(work.shard, work.output.finish())
        else:
            work.output.write(work.window, scored)
            bar.update(len(work.window))


def _read(
    folder: ShardFolder, shards: Iterable[Shard], fingerprint: str, batch_size: int, skipped: Callable[[int], Any]
) -> Iterator[Work]:
    for shard in shards:
        source, target = str(shard.source), str(folder.unfinished(shard))
        with open_rows(source) as stream:
            resume = rows_done(target) > 0
            output = ScoredFile(stream, source, target, fingerprint, resume=resume, stdio_format="")
            skipped(output.rows)
            without_rows = replace(stream, rows=iter(()))
            for window in split_windows(stream.rows, batch_size):
                yield Work(shard, output, without_rows, window)
            yield Work(shard, output, without_rows, ())
