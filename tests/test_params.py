from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers.optimization import get_scheduler
from transformers.trainer_utils import SchedulerType

from conftest import DEFAULTS, default_params
from reward_model.common.errors import UserError
from reward_model.params import load_params


def with_changes(tmp_path: Path, changes: dict[str, dict[str, Any]], drop: tuple[str, ...] = ()) -> Path:
    params = deepcopy(DEFAULTS)
    for section, values in changes.items():
        params[section] |= values
    for key in drop:
        section, name = key.split(".")
        del params[section][name]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    return path


def test_the_committed_file_is_valid_and_has_the_promised_defaults() -> None:
    params = default_params()
    assert params.train.learning_rate == 4e-5
    assert params.train.num_train_epochs == 1
    assert params.train.per_device_train_batch_size * params.train.gradient_accumulation_steps == 16
    assert params.data.max_samples == 3000
    assert params.base.source == "wheel"


def test_the_number_that_dvc_writes_as_text_is_read_as_a_number(tmp_path: Path) -> None:
    path = with_changes(tmp_path, {})
    path.write_text(path.read_text().replace("learning_rate: 4.0e-05", "learning_rate: 1e-05"))
    assert yaml.safe_load(path.read_text())["train"]["learning_rate"] == "1e-05"
    assert load_params(path).train.learning_rate == 1e-5


def test_all_faults_are_reported_together(tmp_path: Path) -> None:
    path = with_changes(
        tmp_path,
        {
            "train": {
                "learning_rat": 1,
                "weight_decay": "much",
                "max_grad_norm": -1,
                "warmup_ratio": True,
                "eval_steps": 2.5,
            },
            "data": {"max_samples": 0, "heldout_fraction": 0.97},
            "tokenize": {"max_length": 12.5},
        },
        drop=("train.seed",),
    )
    with pytest.raises(UserError) as error:
        load_params(path)
    message = str(error.value)
    for fault in (
        "train.learning_rat: unknown key (did you mean learning_rate?)",
        "train.weight_decay:",
        "train.max_grad_norm: Input should be greater than 0 (got -1)",
        "train.warmup_ratio: a number is wanted",
        "train.seed: missing",
        "train.eval_steps: a whole number of steps, or a share below 1, is wanted (got 2.5)",
        "data.max_samples:",
        "data.heldout_fraction: with validation_fraction",
        "tokenize.max_length:",
        "9 fault(s)",
    ):
        assert fault in message


def test_names_that_transformers_lacks_are_faults(tmp_path: Path) -> None:
    changes = {"optim": "adamw_torch_fuse", "lr_scheduler_type": "cosin", "report_to": ["tensorbord"]}
    with pytest.raises(UserError) as error:
        load_params(with_changes(tmp_path, {"train": changes}))
    for fault in (
        "train.optim: transformers has no such optimizer (did you mean adamw_torch_fused?) (got 'adamw_torch_fuse')",
        "train.lr_scheduler_type: transformers has no such schedule (did you mean cosine?) (got 'cosin')",
        "train.report_to.0: transformers has no such logger (did you mean tensorboard?) (got 'tensorbord')",
    ):
        assert fault in str(error.value)
    known = {"optim": "lion_32bit", "lr_scheduler_type": "polynomial", "report_to": ["tensorboard"]}
    assert load_params(with_changes(tmp_path, {"train": known})).train.optim == "lion_32bit"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("adamw", "adamw_torch"), ("AdamW", "adamw_torch"), ("adamw_torch_f", "adamw_torch_fused"), ("lion", "lion_8bit")],
)
def test_a_name_that_was_begun_is_ended(tmp_path: Path, typed: str, meant: str) -> None:
    with pytest.raises(UserError, match=rf"did you mean {meant}\?"):
        load_params(with_changes(tmp_path, {"train": {"optim": typed}}))


@pytest.mark.parametrize("name", [each.value for each in SchedulerType])
def test_schedules_that_need_settings_are_refused_and_no_others(tmp_path: Path, name: str) -> None:
    """As transformers' own way to make them tells."""
    path = with_changes(tmp_path, {"train": {"lr_scheduler_type": name}})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    try:
        get_scheduler(name, optimizer, num_warmup_steps=1, num_training_steps=9)
    except (TypeError, ValueError):
        fault = (
            r"train\.lr_scheduler_type: it needs lr_scheduler_kwargs, .*; without work linear, cosine, .*, greedy \("
        )
        with pytest.raises(UserError, match=fault):
            load_params(path)
    else:
        assert load_params(path).train.lr_scheduler_type == name


def test_a_file_given_as_source_is_told_the_right_keys(tmp_path: Path) -> None:
    path = with_changes(tmp_path, {"data": {"source": "my.jsonl"}})
    with pytest.raises(UserError, match=r"set data\.source: path and data\.path: my\.jsonl"):
        load_params(path)


@pytest.mark.parametrize("text", ["train: [", "", "just text", "train: null\n"])
def test_rubbish_is_one_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError):
        load_params(path)


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run from the project's root"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, 0.0, "half", "1.5", ".nan", [1]], ids=str)
def test_layers_are_a_number_auto_or_null(tmp_path: Path, wrong: Any) -> None:
    for value, expected in ((15, 15), ("15", 15), ("auto", "auto"), (None, None), (0.5, 0.5), ("0.5", 0.5)):
        assert load_params(with_changes(tmp_path, {"train": {"layers": value}})).train.layers == expected
    fault = r"1 fault\(s\):\n  train\.layers: auto, null, a number of layers, or a share of them below 1 is wanted"
    with pytest.raises(UserError, match=fault):
        load_params(with_changes(tmp_path, {"train": {"layers": wrong}}))


@pytest.mark.parametrize("wrong", [-1, True, 1.5, 0.0, "half", None, "auto", ".nan", [1]], ids=str)
def test_frozen_layers_are_a_number_or_a_share(tmp_path: Path, wrong: Any) -> None:
    for value, expected in ((0, 0), (7, 7), ("7", 7), (0.5, 0.5), ("0.5", 0.5)):
        assert load_params(with_changes(tmp_path, {"train": {"freeze_layers": value}})).train.freeze_layers == expected
    fault = r"1 fault\(s\):\n  train\.freeze_layers: a number of layers, or a share of them below 1 is wanted"
    with pytest.raises(UserError, match=fault):
        load_params(with_changes(tmp_path, {"train": {"freeze_layers": wrong}}))
