"""What checkpoints and validation cost: the time of both, beside that of the steps between two of them.

    python tests/performance/checkpoint_cost.py [--saves 8]

Trains on data/tokens/train.parquet as params.yaml says, but validates and saves a checkpoint after every second step,
to a temporary folder. The first two steps and what comes after them are the warm-up and do not count. The last line is
JSON, medians in seconds: `save`; `evaluation`; `step`, of steps that do not follow a save; `step_after_save`, of those
that do, which may wait for the disk; and the shares of time that saving takes with one every `train.save_steps` steps,
what the step after it loses included, and that validation takes, with one every `train.eval_steps` of a whole training.
Writes no tracked file.
"""

import argparse
import json
import math
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
from reward_model.training.config import evaluation_interval
from reward_model.training.run import train

SAVE_STEPS = 2


class Clock(TrainerCallback):
    """Seconds of every step, and of every evaluation and every save, which come in this order after a step's end."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.evaluations: list[float] = []
        self.saves: list[float] = []
        self.begun = self.ended = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.ended = time.perf_counter()
        self.steps.append(self.ended - self.begun)

    def on_evaluate(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.evaluations.append(time.perf_counter() - self.ended)
        self.ended = time.perf_counter()

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.saves.append(time.perf_counter() - self.ended)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saves", type=int, default=8)
    options = parser.parse_args()
    params = load_params().train
    pairs, validation = (read_parquet(TOKENS / f"{name}.parquet") for name in ("train", "validation"))
    some = pairs[: (options.saves + 1) * SAVE_STEPS * effective_batch()]
    often = replace(params, save_steps=SAVE_STEPS, eval_steps=SAVE_STEPS, num_train_epochs=1)
    clock = timed(some, often, validation)
    # A save comes after the second step of each two.
    save, after_save, step = (median(times) for times in (clock.saves[1:], clock.steps[2::2], clock.steps[3::2]))
    evaluation = median(clock.evaluations[1:])
    steps = len(pairs) * params.num_train_epochs / effective_batch()  # or a few more, of whole prompts
    interval = evaluation_interval(params.eval_steps, math.ceil(steps))
    cost = save + after_save - step
    figures = {
        "saves": len(clock.saves) - 1,
        "save": save,
        "evaluation": evaluation,
        "step": step,
        "step_after_save": after_save,
        "share": cost / (cost + params.save_steps * step),
        "evaluation_share": evaluation / (evaluation + interval * step) if interval else 0.0,
    }
    print(json.dumps(figures))


def timed(pairs: list[dict[str, Any]], params: TrainParams, validation: list[dict[str, Any]]) -> Clock:
    """Train, and what the clock has seen."""
    clock = Clock()
    cast(list[Any], trainer.DEFAULT_CALLBACKS).append(clock)
    encoder = Encoder.load(TOKENIZER)
    train(build_reward_model(BASE, encoder, params.seed), encoder, pairs, params, validation=validation)
    return clock


if __name__ == "__main__":
    main()
