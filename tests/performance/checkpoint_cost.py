"""What checkpoints cost: the time that saves take, beside that of the steps between two of them.

    python tests/performance/checkpoint_cost.py [--saves 8]

Trains on data/tokens/train.parquet as params.yaml says, but saves a checkpoint after every second step, to a temporary
folder. The first two steps and the save after them are the warm-up and do not count. The last line is JSON, medians in
seconds: `save`; `step`, of steps that do not follow a save; `step_after_save`, of those that do, which may wait for the
disk; and `share`, the share of time that saving takes with one every `train.save_steps` steps, what the step after it
loses included. Writes no tracked file.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from statistics import median
from typing import Any, cast

sys.path.insert(0, "stages")

import reward_model.common.environment  # noqa: F401

# The environment comes before torch.
# isort: split
from quality_beside_trl import TOKENS
from train_throughput import BASE, TOKENIZER, effective_batch
from transformers import TrainerCallback, trainer

from reward_model.common.tables import read_parquet
from reward_model.contract.encoder import Encoder
from reward_model.modeling.model import build_reward_model
from reward_model.params import TrainParams, load_params
from reward_model.training.run import train

SAVE_STEPS = 2


class Clock(TrainerCallback):
    """Seconds of every step, and of every save, which comes after a step's end."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.saves: list[float] = []
        self.begun = self.ended = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.ended = time.perf_counter()
        self.steps.append(self.ended - self.begun)

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.saves.append(time.perf_counter() - self.ended)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saves", type=int, default=8)
    options = parser.parse_args()
    params = load_params().train
    pairs = read_parquet(TOKENS / "train.parquet")[: (options.saves + 1) * SAVE_STEPS * effective_batch()]
    clock = timed(pairs, replace(params, save_steps=SAVE_STEPS, num_train_epochs=1))
    # A save comes after the second step of each two.
    save, after_save, step = (median(times) for times in (clock.saves[1:], clock.steps[2::2], clock.steps[3::2]))
    cost = save + after_save - step
    figures = {
        "saves": len(clock.saves) - 1,
        "save": save,
        "step": step,
        "step_after_save": after_save,
        "share": cost / (cost + params.save_steps * step),
    }
    print(json.dumps(figures))


def timed(pairs: list[dict[str, Any]], params: TrainParams) -> Clock:
    """Train, and what the clock has seen."""
    clock = Clock()
    cast(list[Any], trainer.DEFAULT_CALLBACKS).append(clock)
    encoder = Encoder.load(TOKENIZER)
    train(build_reward_model(BASE, encoder, params.seed), encoder, pairs, params)
    return clock


if __name__ == "__main__":
    main()
