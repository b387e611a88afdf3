"""params.yaml's train section as TRL's RewardConfig, and the order of the pairs that goes with it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from transformers import TrainingArguments
from trl.trainer.reward_config import RewardConfig

from reward_model.modeling.batching import Layout, packed_batch
from reward_model.modeling.device_check import Compute
from reward_model.params import TrainParams
from reward_model.training.sampler import EffectiveBatchSampler, balanced

CURVE_POINTS = 25


def reward_config(params: TrainParams, compute: Compute, folder: Path, pairs: int) -> RewardConfig:
    """params.yaml's train section as TRL has it; `folder` is for checkpoints."""
    steps = pairs * params.num_train_epochs / (params.per_device_train_batch_size * params.gradient_accumulation_steps)
    config = RewardConfig(
        output_dir=str(folder),
        use_cpu=compute.device.type == "cpu",
        bf16=compute.dtype == torch.bfloat16,
        learning_rate=params.learning_rate,
        num_train_epochs=params.num_train_epochs,
        per_device_train_batch_size=params.per_device_train_batch_size,
        gradient_accumulation_steps=params.gradient_accumulation_steps,
        warmup_steps=params.warmup_ratio,
        lr_scheduler_type="linear",
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
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=compute.device.type == "cuda",
        remove_unused_columns=False,
    )
    # With several GPUs in one process the trainer would split batches that cannot be split; `launch` uses them.
    if config.n_gpu > 1:
        config._n_gpu = 1
    return config


def effective_batch_sampler(lengths: Sequence[int], config: RewardConfig, layout: Layout) -> EffectiveBatchSampler:
    """The order in which pairs of these lengths are trained on."""
    if layout is packed_batch:
        arrange = partial(balanced, lengths=lengths, batch_size=config.per_device_train_batch_size)
    else:
        arrange = partial(sorted, key=lambda number: lengths[number])  # for less padding
    multiple = config.per_device_train_batch_size * config.world_size if config.world_size > 1 else 1
    return EffectiveBatchSampler(lengths, effective_batch_size(config), config.seed, arrange, multiple)


def effective_batch_size(config: TrainingArguments) -> int:
    """Pairs in an optimizer step, over all processes."""
    return config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size
