"""Training that is cut off, starved or let down by its device: nothing is lost, and the result is the same."""

import dataclasses
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file

import train as train_stage
from conftest import BEFORE_TRAINING, ROOT, Project, make_pairs
from reward_model.common.errors import UserError
from reward_model.common.files import hash_folder
from reward_model.modeling.device_check import Compute
from reward_model.modeling.model import build_reward_model
from reward_model.training import checkpoints, distributed, trainer
from reward_model.training import run as training_run
from reward_model.training.checkpoints import Checkpoints
from reward_model.training.run import TrainingResult, train
from reward_model.training.trainer import PairTrainer
from test_training import PARAMS, assert_same_weights, encoder_of, swapped, token_rows

ROWS = 21  # in steps of 8, 8 and 5 pairs


NOT_SHARDED = SimpleNamespace(accelerator=SimpleNamespace(is_fsdp2=False))


class Cut(Exception):
    """The training ends here."""


def run(base: Path, checkpoints: Checkpoints | None = None, **changes: Any) -> tuple[TrainingResult, torch.nn.Module]:
    params = dataclasses.replace(PARAMS, **{"num_train_epochs": 3, "save_steps": 2, "eval_steps": None, **changes})
    encoder = encoder_of(base)
    model = build_reward_model(base, encoder, params.seed)
    rows = [row | {"id": f"pair-{number}"} for number, row in enumerate(token_rows(encoder, 60))]
    return train(model, encoder, rows[:ROWS], params, checkpoints, swapped(rows[ROWS:])), model


def before_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], Any]) -> None:
    """Do something once, when the first micro-batch of a step is to be computed."""
    original = PairTrainer.training_step
    done: list[int] = []

    def training_step(self: PairTrainer, *arguments: Any) -> torch.Tensor:
        if self.state.global_step == step - 1 and not done:
            done.append(step)
            act()
        return original(self, *arguments)

    monkeypatch.setattr(PairTrainer, "training_step", training_step)


def cut_off() -> None:
    raise Cut


LORA = {"lora": PARAMS.lora.__class__(enabled=True, r=4, lora_alpha=8, target_modules="all-linear")}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "bf16"},
        LORA,
        {"gradient_checkpointing": True},
        {"weight_decay": 0.1},
        {"eval_steps": 1},
        LORA | {"eval_steps": 3},
        {"num_train_epochs": 1, "gradient_accumulation_steps": 1},
    ],
    ids=[
        *("plain", "bf16", "lora", "gradient checkpointing", "whole vocabulary", "best kept", "best kept, lora"),
        "one epoch",
    ],
)
def test_a_training_that_was_cut_off_ends_with_the_weights_and_curves_of_one_that_was_not(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Cut in step 6 of 9 or 10, and again in step 9; the even ones are saved."""
    whole, model = run(tiny_base, **changes)
    assert len(whole.unseen) == (10 if "num_train_epochs" in changes else 0)
    for step in (6, 9):
        with monkeypatch.context() as patched, pytest.raises(Cut):
            before_step(patched, step, cut_off)
            run(tiny_base, Checkpoints(tmp_path / "states"), **changes)
        assert Checkpoints(tmp_path / "states").latest() == tmp_path / f"states/step-{(step - 1) // 2 * 2}"
    steps: list[int] = []
    monkeypatch.setattr(PairTrainer, "_end_step", lambda self: steps.append(self.state.global_step) or end_step(self))
    resumed, after = run(tiny_base, Checkpoints(tmp_path / "states"), **changes)
    assert len(steps) == whole.summary["steps"] - 8, "those after the last that was saved"
    assert_same_weights(model, after)
    assert dataclasses.replace(resumed, adapter=None) == dataclasses.replace(whole, adapter=None)
    if resumed.adapter is not None and whole.adapter is not None:
        assert all(torch.equal(weight, whole.adapter.weights[name]) for name, weight in resumed.adapter.weights.items())


end_step = PairTrainer._end_step


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_step_end_and_saves_it(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    before = signal.getsignal(number)  # a shell that starts it in the background has it ignored
    whole, model = run(tiny_base, save_steps=100)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        before_step(patched, 5, lambda: os.kill(os.getpid(), number))
        run(tiny_base, Checkpoints(tmp_path / "states"), save_steps=100)
    assert "interrupted: checkpoint 5 is saved" in capsys.readouterr().err
    assert Checkpoints(tmp_path / "states").latest() == tmp_path / "states/step-5"
    resumed, after = run(tiny_base, Checkpoints(tmp_path / "states"), save_steps=100)
    assert_same_weights(model, after)
    assert resumed == whole
    assert signal.getsignal(number) == before


def test_a_damaged_state_is_skipped_for_the_one_before(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, model = run(tiny_base)
    with monkeypatch.context() as patched, pytest.raises(Cut):
        before_step(patched, 7, cut_off)
        run(tiny_base, Checkpoints(tmp_path / "states"))
    assert sorted(path.name for path in (tmp_path / "states").glob("step-*")) == ["step-4", "step-6"]
    damaged = tmp_path / "states/step-6/optimizer.pt"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert Checkpoints(tmp_path / "states").latest() == tmp_path / "states/step-4"
    assert "checkpoint 6 is damaged: trying the one before" in capsys.readouterr().err
    assert_same_weights(model, run(tiny_base, Checkpoints(tmp_path / "states"))[1])


def short_of_memory(monkeypatch: pytest.MonkeyPatch, most: int, message: str, *, backward: bool = False) -> None:
    """Memory for `most` pairs at a time, in the forward or in the backward pass."""
    original = PairTrainer.compute_loss

    def compute_loss(self: PairTrainer, model: Any, inputs: Any, *rest: Any, **options: Any) -> torch.Tensor:
        too_many = len(inputs["numbers"]) > most and not self.memory_fallback.checkpointing
        if too_many and not backward:
            raise RuntimeError(message)
        loss = original(self, model, inputs, *rest, **options)
        if too_many:
            # After the gradients of the head have been added.
            norm_of(self).register_hook(lambda _: fail(message))
        return loss

    monkeypatch.setattr(PairTrainer, "compute_loss", compute_loss)


def norm_of(trainer: PairTrainer) -> torch.Tensor:
    """A parameter whose gradient comes early in the backward pass."""
    return cast(torch.nn.Module, trainer.model).get_parameter("model.norm.weight")


def fail(message: str) -> None:
    raise torch.OutOfMemoryError(message)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate",
        "MPS backend out of memory",
        "CPU: can't allocate memory: you tried",
    ],
)
def test_out_of_memory_halves_the_micro_batch_and_changes_no_result(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], message: str
) -> None:
    sizes: Any = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    whole, model = run(tiny_base, **sizes)
    short_of_memory(monkeypatch, 2, message)
    result, after = run(tiny_base, **sizes)
    assert_same_weights(model, after, tolerance=2e-4)
    assert result.summary["loss"] == pytest.approx(whole.summary["loss"], abs=1e-5)
    assert result.summary["pairs"] == whole.summary["pairs"] == 3 * ROWS
    assert result.summary["effective_batch"] == 8
    assert result.summary["step_downs"] == [
        {"step": 1, "done": "4 pairs at a time"},
        {"step": 1, "done": "2 pairs at a time"},
    ]
    assert "out of memory in step 1: 2 pairs at a time from here on" in capsys.readouterr().err


def test_a_backward_pass_that_broke_off_leaves_no_half_gradients(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step has two micro-batches, the second of which is too large: both are computed anew."""
    sizes: Any = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    _, model = run(tiny_base, **sizes)
    computed: list[int] = []
    original = PairTrainer.compute_loss

    def compute_loss(self: PairTrainer, model: Any, inputs: Any, *rest: Any, **options: Any) -> torch.Tensor:
        computed.append(len(inputs["numbers"]))
        loss = original(self, model, inputs, *rest, **options)
        if len(computed) == 2:
            handle = norm_of(self).register_hook(lambda _: handle.remove() or fail("out of memory"))
        return loss

    monkeypatch.setattr(PairTrainer, "compute_loss", compute_loss)
    result, after = run(tiny_base, **sizes)
    assert computed[:6] == [4, 4, 2, 2, 2, 2]
    assert result.summary["step_downs"] == [{"step": 1, "done": "2 pairs at a time"}]
    assert_same_weights(model, after, tolerance=2e-4)


def test_one_pair_that_does_not_fit_turns_on_gradient_checkpointing(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model = run(tiny_base)
    short_of_memory(monkeypatch, 0, "out of memory")
    result, after = run(tiny_base)
    assert [entry["done"] for entry in result.summary["step_downs"]] == ["1 pair at a time", "gradient checkpointing"]
    assert_same_weights(model, after, tolerance=2e-4)


def test_a_pair_that_fits_in_no_way_is_one_clear_error(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PairTrainer, "compute_loss", lambda *_, **__: fail("out of memory"))
    with pytest.raises(UserError, match=r"^out of memory in step 1 with one pair at a time .*tokenize.max_length$"):
        run(tiny_base)


def pretend_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have training believe that it computes on an accelerator."""
    monkeypatch.setattr(
        training_run,
        "choose_compute",
        lambda *_, **__: Compute(torch.device("cuda"), torch.float32, ("cuda in bfloat16: off",)),
    )


@pytest.mark.parametrize("fault", ["Internal error: kernel launch failed", "out of memory"])
def test_a_device_that_fails_midway_hands_over_to_the_cpu(
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: str,
) -> None:
    whole, model = run(tiny_base)
    pretend_accelerator(monkeypatch)
    layouts: list[str] = []
    original = PairTrainer.compute_loss

    def compute_loss(self: PairTrainer, model: Any, inputs: Any, *rest: Any, **options: Any) -> torch.Tensor:
        if not self.on_cpu and self.state.global_step == 5:
            raise RuntimeError(fault)
        layouts.append("packed" if "group_sizes" in inputs else "masked")
        return original(self, model, inputs, *rest, **options)

    monkeypatch.setattr(PairTrainer, "compute_loss", compute_loss)
    result, after = run(tiny_base, Checkpoints(tmp_path / "states"))
    assert layouts[0] == "masked"
    assert layouts[-1] == "packed"
    assert_same_weights(model, after, tolerance=5e-4)
    assert result.summary["device"] == "cpu"
    assert result.summary["pairs"] == whole.summary["pairs"]
    assert len(result.curve) == len(whole.curve)
    assert result.summary["device_problems"][0] == "cuda in bfloat16: off"
    assert fault in result.summary["device_problems"][1]
    printed = capsys.readouterr().err
    assert "the CPU takes over" in printed
    assert f"resumes from {tmp_path / 'states/step-5'}" in printed


def test_a_device_that_fails_with_nothing_saved_is_one_clear_error(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_accelerator(monkeypatch)
    monkeypatch.setattr(training_run, "_rescue", lambda _: None)
    original = PairTrainer.compute_loss

    def compute_loss(self: PairTrainer, *arguments: Any, **options: Any) -> torch.Tensor:
        if self.state.global_step == 1:
            raise RuntimeError("gone")
        return original(self, *arguments, **options)

    monkeypatch.setattr(PairTrainer, "compute_loss", compute_loss)
    with pytest.raises(UserError, match=r"nothing could be saved \(gone\): set train.device: cpu"):
        run(tiny_base, Checkpoints(tmp_path / "states"))


def test_a_loss_that_is_not_finite_names_the_pair_and_keeps_the_last_state(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = trainer.pair_losses

    def pair_losses(*arguments: Any) -> torch.Tensor:
        losses = original(*arguments)
        if len(list((tmp_path / "states").glob("step-4"))):
            losses = losses.clone()
            losses[-1] = torch.nan
        return losses

    monkeypatch.setattr(trainer, "pair_losses", pair_losses)
    with pytest.raises(UserError, match=r"not finite in step 5 \(pairs pair-\d+\): lower"):
        run(tiny_base, Checkpoints(tmp_path / "states"))
    assert Checkpoints(tmp_path / "states").latest() == tmp_path / "states/step-4"


def test_a_disk_that_is_full_for_the_last_file_of_a_state_ends_no_training(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write_checksums(folder: Path) -> None:
        raise UserError(f"cannot write {folder}: [Errno 28] No space left on device")

    expected = run(tiny_base)[1]
    monkeypatch.setattr(checkpoints, "write_checksums", write_checksums)
    assert_same_weights(run(tiny_base, Checkpoints(tmp_path / "states"))[1], expected)
    assert "checkpoint 2 cannot be saved (cannot write " in capsys.readouterr().err
    assert not list((tmp_path / "states").glob("*"))


def test_states_may_be_kept_on_another_disk(tiny_base: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "states").symlink_to(elsewhere)
    kept = Checkpoints(tmp_path / "states/key")
    run(tiny_base, kept)
    assert kept.latest() == tmp_path / "states/key/step-8"
    kept.remove()
    assert (tmp_path / "states").is_symlink()
    assert not list(elsewhere.iterdir())


def slow_project(project: Project, **changes: Any) -> Project:
    """Set up for a training of 160 steps, of which every fifth is saved."""
    project.set_params({"train.num_train_epochs": 40, "train.save_steps": 5, **changes})
    for name in BEFORE_TRAINING:
        project.stage(name)
    return project


def states(project: Project) -> list[Path]:
    return list((project.folder / "models/.checkpoints").glob("*/step-*"))


def test_a_stage_that_is_killed_at_random_moments_ends_with_the_same_bytes(project: Project) -> None:
    slow_project(project)
    project.stage("train")
    outputs = [project.folder / name for name in ("models/reward", "metrics")]
    expected = [hash_folder(path) for path in outputs]
    assert not states(project), "states are removed after success"
    shutil.rmtree(project.folder / "models/reward")
    resumed = 0
    for trial in range(4):
        process = subprocess.Popen(
            [sys.executable, "stages/train.py"], cwd=project.folder, stderr=subprocess.PIPE, text=True
        )
        before = set(states(project))
        deadline = time.monotonic() + 120
        while not set(states(project)) - before:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(random.Random(trial).uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        resumed += "resumes from" in process.communicate()[1]
        assert not (project.folder / "models/reward").exists()
    assert resumed == 3
    project.stage("train")
    assert [hash_folder(path) for path in outputs] == expected


def test_ctrl_c_ends_the_stage_with_a_saved_step_and_other_params_do_not_take_it_up(project: Project) -> None:
    slow_project(project, **{"train.save_steps": 1000})
    process = subprocess.Popen(
        [sys.executable, "stages/train.py"],
        cwd=project.folder,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    seen = ""
    while "8/" not in seen:
        seen += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate()
    assert process.returncode == 130
    assert "interrupted: checkpoint" in rest
    assert "Traceback" not in rest
    assert len(states(project)) == 1
    project.set_params({"train.seed": 7})
    assert "resumes from" not in project.stage("train").stderr
    assert len(states(project)) == 1, "that of the other params is still there"
    project.set_params({"train.seed": 42, "train.save_steps": 900})
    assert "resumes from" in project.stage("train").stderr
    assert not states(project)


def run_with_small_files(
    project: Project, most: int, *command: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Train where no file may grow beyond so many bytes, which to a program is a full disk."""
    limits = (most, resource.RLIM_INFINITY)
    return project.run(
        *(command or ("stages/train.py",)),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits),
        env=os.environ | environment,
    )


def test_a_disk_too_full_for_a_state_is_told_and_training_goes_on(project: Project) -> None:
    """There is space for the model, not for the optimizer's state, which is about twice as large."""
    slow_project(project, **{"train.num_train_epochs": 2})
    project.stage("train")
    size = (project.folder / "models/reward/model.safetensors").stat().st_size
    expected = hash_folder(project.folder / "models/reward")
    result = run_with_small_files(project, size + 10_000)
    assert result.returncode == 0, result.stderr
    assert "checkpoint 5 cannot be saved (" in result.stderr
    assert hash_folder(project.folder / "models/reward") == expected


def test_a_full_disk_is_told_and_leaves_nothing_half_written(project: Project) -> None:
    """Neither a state nor the model can be saved."""
    slow_project(project, **{"train.num_train_epochs": 2})
    result = run_with_small_files(project, 2**16)
    assert result.returncode == 1
    assert "checkpoint 5 cannot be saved (" in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: cannot write models/reward: ")
    assert "Traceback" not in result.stderr
    assert not states(project)
    assert not (project.folder / "models/reward").exists()
    assert not list((project.folder / "models").glob(".reward*"))


def test_a_place_that_cannot_be_written_to_is_one_clear_error(project: Project) -> None:
    for name in BEFORE_TRAINING:
        project.stage(name)
    (project.folder / "models/.checkpoints").write_text("a file where a folder should be")
    result = project.run("stages/train.py")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: cannot write models/.checkpoints/")
    assert "Traceback" not in result.stderr
    shutil.rmtree(project.folder / "data/pairs")
    (project.folder / "metrics").rename(project.folder / "kept")
    (project.folder / "metrics").write_text("a file where a folder should be")
    result = project.run("stages/prepare.py")
    assert result.returncode == 1
    assert result.stderr.startswith("error: cannot write metrics/data.json")
    assert len(result.stderr.splitlines()) == 1


# What `accelerate launch` makes of a configuration with FSDP, like the README's.
FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "PYTHONPATH": str(ROOT / "tests/fsdp_on_cpu"),
}
IN_TWO_PROCESSES = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "stages/train.py")


def compared_with_each_other(prompts: int) -> list[dict[str, str]]:
    """Prompts with three responses, each compared with each."""
    rows = []
    for row in make_pairs(prompts):
        best, middle, worst = row["chosen"], f"{row['chosen']} or {row['rejected']}", row["rejected"]
        rows += [
            {"prompt": row["prompt"], "chosen": chosen, "rejected": rejected}
            for chosen, rejected in ((best, middle), (best, worst), (middle, worst))
        ]
    return rows


SPY = """
import sys
sys.path.insert(0, "stages")
import reward_model.common.environment
from reward_model.training import trainer as pair_trainer
import train
losses = pair_trainer.pair_losses
def spy(chosen, *others):
    with open("dtypes", "a") as file:
        print(chosen.dtype, file=file)
    return losses(chosen, *others)
pair_trainer.pair_losses = spy
train.main()
"""


@pytest.mark.slow
def test_a_sharded_model_in_bf16_is_saved_whole_and_its_head_stays_float32(project: Project) -> None:
    project.set_params(
        {
            "train.layers": None,
            "train.precision": "bf16",
            "train.num_train_epochs": 1,
            "train.save_steps": 1,
            "train.gradient_checkpointing": True,
            "train.freeze_layers": 0.5,
        }
    )
    for name in BEFORE_TRAINING:
        project.stage(name)
    (project.folder / "spy.py").write_text(SPY)
    result = project.run(*IN_TWO_PROCESSES[:-1], "spy.py", env=os.environ | FSDP)
    assert result.returncode == 0, result.stderr[-2000:]
    assert set((project.folder / "dtypes").read_text().split()) == {"torch.float32"}
    assert project.read("metrics/train.json")["precision"] == "bf16"
    found = weights(project)
    assert {weight.dtype for weight in found.values()} == {torch.float32}
    # Values of a bf16 head would have 16 zero bits at their end.
    assert (found["score.weight"].view(torch.int32) & 0xFFFF).any()
    base = load_file(project.folder / "models/base/model.safetensors")
    assert {name: weight.shape for name, weight in found.items() if name in base} == {
        name: weight.shape for name, weight in base.items() if not name.startswith("lm_head")
    }
    unchanged = {name for name, weight in found.items() if name in base and weight.equal(base[name])}
    assert {name for name in found if name.startswith(("model.embed_tokens", "model.layers.0."))} <= unchanged
    assert not [name for name in unchanged if name.startswith("model.layers.1.mlp")]
    full = run_with_small_files(project, 2**13, *IN_TWO_PROCESSES, **FSDP)
    assert "cannot be saved (" in full.stderr
    assert "error: cannot write models/reward: " in full.stderr
    assert "CheckpointException" not in full.stderr


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({"WORLD_SIZE": "1"}, "needs several processes"),
        ({}, "accelerate has no FSDP for cpu"),
        *(({name: "other"}, f"FSDP needs {name.lower()}: ") for name in distributed.FSDP_SETTINGS),
    ],
)
def test_another_kind_of_sharding_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], part: str
) -> None:
    for variable, value in ({"WORLD_SIZE": "2"} | FSDP | environment).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=part):
        distributed.require_known_sharding()
        distributed.setup_fsdp(cast(Any, None), cast(Any, NOT_SHARDED), Compute(torch.device("cpu"), torch.float32))


def test_a_state_of_another_kind_of_launch_is_not_taken_up(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BEFORE_TRAINING:
        project.stage(name)
    monkeypatch.chdir(project.folder)
    keys = set()
    for launch in ({}, {"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "ACCELERATE_USE_FSDP": "true"}):
        for variable, value in launch.items():
            monkeypatch.setenv(variable, value)
        keys.add(train_stage.training_key(train_stage.training_facts(PARAMS, {})))
    assert len(keys) == 3


def weights(project: Project) -> dict[str, torch.Tensor]:
    return load_file(project.folder / "models/reward/model.safetensors")
