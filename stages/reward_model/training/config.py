"""params.yaml's train section as TRL's RewardConfig, and the plan of the steps that goes with it."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers.trainer_utils import SchedulerType
from trl.trainer.reward_config import RewardConfig

from reward_model.common.errors import UserError
from reward_model.modeling.batching import Layout
from reward_model.modeling.device_check import Compute
from reward_model.modeling.devices import world_size
from reward_model.params import TrainParams
from reward_model.training.loggers import set_up_loggers
from reward_model.training.sampler import PairRow, TrainingPlan, comparison_weights
from reward_model.training.validation import MIN_PROMPTS

CURVE_POINTS = 25
EVALUATING_SCHEDULES = ("reduce_lr_on_plateau", "greedy")  # those that go by validation figures


def reward_config(params: TrainParams, compute: Compute, folder: Path, steps: int) -> RewardConfig:
    """params.yaml's train section as TRL has it.

    Args:
        params: the section.
        compute: the device.
        folder: for checkpoints.
        steps: of the whole training, which to transformers are one epoch: `TrainingPlan` has made batches of them.
    """
    config = RewardConfig(
        output_dir=str(folder),
        use_cpu=compute.device.type == "cpu",
        bf16=compute.dtype == torch.bfloat16,
        learning_rate=params.learning_rate,
        num_train_epochs=1,
        per_device_train_batch_size=1,
        warmup_steps=params.warmup_ratio,
        optim=params.optim,
        weight_decay=params.weight_decay,
        max_grad_norm=params.max_grad_norm,
        center_rewards_coefficient=params.center_rewards_coefficient,
        activation_checkpointing=params.gradient_checkpointing,  # the name that transformers 6 will want
        torch_empty_cache_steps=params.torch_empty_cache_steps,
        seed=params.seed,
        max_length=None,  # the tokenize stage has cut the pairs already; TRL would drop long ones
        logging_steps=max(1, round(steps / CURVE_POINTS)),
        save_strategy="steps",
        save_steps=params.save_steps,
        metric_for_best_model="loss",
        greater_is_better=False,
        report_to=[name for name in params.report_to if name != "dvclive"] or "none",  # that is added with settings
        disable_tqdm=True,
        ddp_broadcast_buffers=False,  # they are constants; and a process out of memory may not come to send them
        dataloader_pin_memory=compute.device.type == "cuda",
        remove_unused_columns=False,
    )
    # Set here, since RewardConfig refuses those that go by evaluations without a data set of its own for them.
    config.lr_scheduler_type = SchedulerType(params.lr_scheduler_type)
    # With several GPUs in one process the trainer would split batches that cannot be split; `launch` uses them.
    if config.n_gpu > 1:
        config._n_gpu = 1
    return config


def training_plan(rows: Sequence[PairRow], params: TrainParams, layout: Layout) -> TrainingPlan:
    """The order in which rows of data/tokens are trained on."""
    return TrainingPlan(
        rows,
        comparison_weights(rows, params.comparison_weight),
        epochs=params.num_train_epochs,
        batch_size=params.per_device_train_batch_size,
        effective_batch=effective_batch_size(params),
        seed=params.seed,
        layout=layout,
        processes=world_size(),
    )


def check_options(params: TrainParams) -> None:
    """Refuse before any work what would fail in the middle of it.

    Raises:
        UserError: a logger cannot be had, something goes by evaluations and there are none, or options do not go
            together.
    """
    set_up_loggers(params.report_to)
    wanted = {
        "train.keep: best": params.keep == "best",
        "train.early_stopping_patience": params.early_stopping_patience is not None,
        f"train.lr_scheduler_type: {params.lr_scheduler_type}": params.lr_scheduler_type in EVALUATING_SCHEDULES,
    }
    for key, is_wanted in wanted.items():
        if is_wanted and params.eval_steps is None:
            raise UserError(f"{key} goes by evaluations: set train.eval_steps")
    if params.loss == "plackett_luce" and params.label_smoothing:
        raise UserError("train.label_smoothing is for train.loss: bradley_terry; set it to 0")


def evaluation_interval(eval_steps: float | None, steps: int) -> int | None:
    """Steps between two evaluations of a training of so many: a number, or a share of them below 1; None: never."""
    if eval_steps is None:
        return None
    return math.ceil(eval_steps * steps) if eval_steps < 1 else int(eval_steps)


def why_nothing_is_chosen(params: TrainParams, prompts: int, steps: int) -> str | None:
    """Why evaluations choose no weights and no end, if they are to; None if they can.

    Args:
        params: the section.
        prompts: of the validation pairs that are evaluated on.
        steps: of the whole training.
    """
    stops = params.early_stopping_patience is not None
    interval = evaluation_interval(params.eval_steps, steps)
    if interval is None or not (params.keep == "best" or stops):
        return None
    if prompts < MIN_PROMPTS:
        reason = f"{prompts} validation prompts are too few to choose by, {MIN_PROMPTS} are needed"
    elif interval >= steps:
        reason = (
            f"train.eval_steps: {params.eval_steps:g} leaves no evaluation to choose by before step {steps}, the last"
        )
    else:
        return None
    return f"{reason}: the last weights are kept" + (", and training does not stop early" if stops else "")


def effective_batch_size(params: TrainParams) -> int:
    """Comparisons in an optimizer step at most, over all processes."""
    return params.per_device_train_batch_size * params.gradient_accumulation_steps * world_size()
