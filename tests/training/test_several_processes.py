"""Several processes, on one node or two: they train as one, agree on what goes wrong, and go on when one was killed."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from conftest import BEFORE_TRAINING, Project, build_project, write_rows
from reward_model.common.errors import UserError
from reward_model.modeling.processes import gather, telling_of_lost_processes
from reward_model.training.meeting import Report, find_fault
from test_survival import FSDP, IN_TWO_PROCESSES, compared_with_each_other, states, weights

SAVED_WITH_LORA = ("model.safetensors", "adapter/adapter_model.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Project:
    """A project trained by one process, then set up for two with the same effective batch. Not to be changed."""
    project = build_project(tmp_path_factory.mktemp("alone") / "project", tiny_base)
    write_rows(project.folder / "data/own/pairs.jsonl", compared_with_each_other(40))
    project.set_params({"data.max_samples": 27, "train.num_train_epochs": 6, "train.save_steps": 3})
    for name in BEFORE_TRAINING:
        project.stage(name)
    project.set_params({"train.per_device_train_batch_size": 4, "train.gradient_accumulation_steps": 2})
    project.stage("train")
    project.set_params({"train.gradient_accumulation_steps": 1})
    return project


def copy_of(project: Project, folder: Path) -> Project:
    """A node's own copy, without what training made."""
    shutil.copytree(project.folder, folder, ignore=shutil.ignore_patterns("reward"))
    return Project(folder)


def assert_trained_alike(project: Project, alone: Project) -> None:
    found, expected = project.read("metrics/train.json"), alone.read("metrics/train.json")
    assert found["pairs"] == expected["pairs"] == 6 * 27
    assert found["effective_batch"] == expected["effective_batch"] == 8
    assert found["loss"] == pytest.approx(expected["loss"], abs=1e-3)
    for name, weight in weights(alone).items():
        torch.testing.assert_close(weights(project)[name], weight, rtol=0, atol=5e-3, msg=name)


def start_node(project: Project, port: int) -> subprocess.Popen[bytes]:
    """The command of stages/README.md, with one process to a node."""
    command = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3"]
    command += ["--rdzv-backend", "c10d", "--rdzv-id", "reward", "--rdzv-endpoint", f"localhost:{port}"]
    with (project.folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *command, "stages/train.py"],
            cwd=project.folder,
            stderr=log,
            env=os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
        )


def is_listening(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("localhost", port)) == 0


def kill_with_workers(agent: subprocess.Popen[bytes]) -> None:
    for process in [*psutil.Process(agent.pid).children(recursive=True), agent]:
        process.kill()
    agent.wait()


@pytest.mark.slow
def test_two_nodes_that_share_no_disk_train_as_one_process_also_when_one_is_killed_and_comes_back(
    alone: Project, tmp_path: Path
) -> None:
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    nodes = [copy_of(alone, tmp_path / name) for name in ("first", "second")]
    agents = [start_node(nodes[0], port)]
    while not is_listening(port):  # else the second one may be the host of the rendezvous
        time.sleep(0.1)
    agents.append(start_node(nodes[1], port))
    while "step-9" not in [path.name for node in nodes for path in states(node)]:  # in the third of six epochs
        assert [agent.poll() for agent in agents] == [None, None]
        time.sleep(0.01)
    kill_with_workers(agents[1])
    agents[1] = start_node(nodes[1], port)
    assert [agent.wait(120) for agent in agents] == [0, 0], (nodes[0].folder / "log").read_text()[-3000:]
    logs = [(node.folder / "log").read_text() for node in nodes]
    writers = [node for node in nodes if (node.folder / "models/reward").exists()]
    assert len(writers) == 1, "the node of process 0"
    assert_trained_alike(writers[0], alone)
    assert "resumes from models/.checkpoints/" in "".join(logs)
    assert "another process of the launch has ended" in "".join(logs)
    assert not [path for node in nodes for path in (node.folder / "models").glob(".checkpoints")]


@pytest.mark.slow
def test_two_processes_with_a_share_of_the_model_each_train_as_one_with_the_same_effective_batch(
    alone: Project, tmp_path: Path
) -> None:
    """Prompts with three comparisons each: what fills up the shares counts for nothing. Killed, they go on exactly."""
    project = copy_of(alone, tmp_path / "project")
    result = project.run(*IN_TWO_PROCESSES, env=os.environ | FSDP)
    assert result.returncode == 0, result.stderr[-2000:]
    assert_trained_alike(project, alone)
    weights_of_two = weights(project)
    process = subprocess.Popen(
        [sys.executable, *IN_TWO_PROCESSES],
        cwd=project.folder,
        stderr=subprocess.DEVNULL,
        env=os.environ | FSDP,
    )
    while not [path for path in states(project) if path.name == "step-9"]:  # in the third epoch, of four steps each
        assert process.poll() is None
        time.sleep(0.01)
    saved = next(path for path in states(project) if path.name == "step-9")
    assert len(list(saved.glob("*/__*_0.distcp"))) == 4  # a share of each, of two things
    kill_with_workers(process)
    result = project.run(*IN_TWO_PROCESSES, env=os.environ | FSDP)
    assert "resumes from" in result.stderr
    for name, expected in weights_of_two.items():
        torch.testing.assert_close(weights(project)[name], expected, rtol=0, atol=1e-5, msg=name)
    assert project.read("metrics/train.json")["pairs"] == 6 * 27


@pytest.mark.slow
def test_low_rank_adapters_are_trained_and_merged_as_by_one_process_where_the_model_is_in_shares(
    alone: Project, tmp_path: Path
) -> None:
    project = copy_of(alone, tmp_path / "project")
    project.set_params({"train.lora.enabled": True, "train.lora.r": 4})
    project.set_params({"train.gradient_accumulation_steps": 2})
    project.stage("train")
    expected = {name: load_file(project.folder / "models/reward" / name) for name in SAVED_WITH_LORA}
    shutil.rmtree(project.folder / "models/reward")
    project.set_params({"train.gradient_accumulation_steps": 1})
    result = project.run(*IN_TWO_PROCESSES, env=os.environ | FSDP)
    assert result.returncode == 0, result.stderr[-3000:]
    for file, kept in expected.items():
        found = load_file(project.folder / "models/reward" / file)
        assert found.keys() == kept.keys()
        for name, weight in kept.items():
            torch.testing.assert_close(found[name], weight, rtol=0, atol=5e-3, msg=name)


FAULTS = """
import os, sys
sys.path.insert(0, "stages")
import reward_model.common.environment
import torch
from reward_model.modeling import device_check
from reward_model.training.trainer import PairTrainer
import train
is_faulty = os.environ["RANK"] == "1"
in_training = torch.distributed.is_initialized
device_check.choose_device = lambda _: torch.device("cuda" if in_training() else "cpu")
device_check.check_device = lambda *_, **__: "it is off" if is_faulty else None
compute_loss = PairTrainer.compute_loss
def short_of_memory(self, model, inputs, *rest, **options):
    if is_faulty and len(inputs["numbers"]) > 1 and self.state.global_step >= 2:
        raise torch.OutOfMemoryError("out of memory")
    return compute_loss(self, model, inputs, *rest, **options)
PairTrainer.compute_loss = short_of_memory
train.main()
"""


@pytest.mark.slow
def test_a_fault_of_one_process_has_all_of_them_step_down_and_changes_no_result(alone: Project, tmp_path: Path) -> None:
    project = copy_of(alone, tmp_path / "project")
    (project.folder / "faults.py").write_text(FAULTS)
    result = project.run(*IN_TWO_PROCESSES[:-1], "faults.py", timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]
    assert_trained_alike(project, alone)
    summary = project.read("metrics/train.json")
    assert summary["device"] == "cpu"
    assert summary["device_problems"] == ["cuda in float32: it is off"]
    done = [entry["done"] for entry in summary["step_downs"]]
    assert done[-1] == "1 pair at a time"
    assert {entry["step"] for entry in summary["step_downs"]} == {3}
    assert result.stderr.count("out of memory in step 3: 1 pair at a time from here on") == 1


SEVEN: dict[str, Any] = dict.fromkeys("abcdefg", 1)


def report(number: int, failure: str | None = None, **facts: Any) -> Report:
    return Report(f"process {number} on node-{number}", failure, {"train.seed": 42, "models/base": "f0", **facts})


@pytest.mark.parametrize(
    ("reports", "fault"),
    [
        ([report(0), report(1)], None),
        (
            [report(0), report(1, "data/tokens/train.parquet is missing")],
            "train.parquet is missing (process 1 on node-1)",
        ),
        ([report(0), None, report(2), None], "of 4 processes these have not come within 10 minutes: 1, 3"),
        ([None, report(1, "no such device")], "no such device (process 1 on node-1)"),
        (
            [report(0), report(1), report(2, **{"models/base": "ff"})],
            "process 2 on node-2 differs from process 0 on node-0 in models/base: copy",
        ),
        ([report(0), report(1, **{"train.seed": 7, "torch": "3"})], "in torch, train.seed: copy"),
        ([report(0), report(1, **SEVEN)], "in a, b, c, d, e and 2 more: copy"),
    ],
)
def test_processes_start_together_with_the_same_inputs_or_not_at_all(
    reports: list[Report | None], fault: str | None
) -> None:
    found = find_fault(reports)
    assert (found is None) if fault is None else (found is not None and fault in found)


def test_a_lost_process_is_one_line_and_another_error_stays_as_it_is() -> None:
    line = r"^another process of the launch has ended, .* \(\[gloo/pair.cc\] Connection closed by peer\)"
    with pytest.raises(UserError, match=line), telling_of_lost_processes():
        raise RuntimeError("[gloo/pair.cc] Connection closed by peer\nsecond line")
    with pytest.raises(RuntimeError, match="shapes"), telling_of_lost_processes():
        raise RuntimeError("shapes differ")
    assert gather("what one process has") == ["what one process has"]
