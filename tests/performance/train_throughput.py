"""How fast and in how much memory this project trains, beside stock TRL on the same pairs in the same run.

    python tests/performance/train_throughput.py [--mix sample|PATH] [--pairs 48] [--rounds 3] [--seed 0]

The sample is data/pairs/train.jsonl; PATH is any file of pairs that the prepare stage reads, cut to 512 tokens. TRL's
RewardTrainer runs with its defaults; only what both must share is set: the base, the pairs as token ids, one epoch,
the effective batch of params.yaml, its learning rate and schedule, and the order of the pairs. Each side trains in a
process of its own, in turn; its first two steps, on pairs beside those asked for, are the warm-up and are not timed.
`loss` is the mean over the second half of the steps, as the pairs are met in training.
The last line is JSON: medians over the rounds. Writes no tracked file.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from transformers import PreTrainedModel

sys.path.insert(0, "stages")

MAX_LENGTH = 512
WARM_UP_STEPS = 2
TOKENIZER = Path("data/tokens/tokenizer")
BASE = Path("models/base")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mix", default="sample", help="sample, or a file of pairs (%(default)s)")
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", choices=["ours", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, json.loads(options.tokens.read_text()), options.seed)))
        return
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens.json"
        rows = tokenized_pairs(options.mix, options.pairs, options.seed)
        tokens.write_text(json.dumps(rows))
        found: dict[str, list[dict[str, float]]] = {"ours": [], "trl": []}
        for number in range(options.rounds):
            for side, measured in found.items():
                measured.append(in_own_process(side, tokens, options.seed + number))
                print(f"round {number + 1}, {side}: {describe_run(measured[-1])}", flush=True)
    print(json.dumps({"mix": options.mix, "pairs": options.pairs, **summary(found["ours"], found["trl"])}))


def tokenized_pairs(mix: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Pairs as rows of data/tokens, at random: `count` and those of the warm-up."""
    from reward_model.contract.encoder import Encoder
    from reward_model.data.pairs import pair_from_row, parse_pairs
    from reward_model.data.readers import read_rows
    from reward_model.data.row_formats import Columns

    path = Path("data/pairs/train.jsonl") if mix == "sample" else Path(mix)
    pairs = parse_pairs(read_rows(path), lambda row: pair_from_row(row, Columns(), path.name)).pairs
    encoder = Encoder.load(TOKENIZER).with_max_length(MAX_LENGTH)
    warm_up = WARM_UP_STEPS * effective_batch()
    rows = []
    for pair in random.Random(seed).sample(pairs, warm_up + count):
        chosen, rejected = encoder.encode(pair.prompt, [pair.chosen, pair.rejected]).ids
        rows.append({"prompt_id": pair.prompt_id, "chosen_ids": chosen, "rejected_ids": rejected, "margin": 0.0})
    return rows


def effective_batch() -> int:
    """Pairs in an optimizer step."""
    from reward_model.params import load_params

    params = load_params().train
    return params.per_device_train_batch_size * params.gradient_accumulation_steps


def in_own_process(side: str, tokens: Path, seed: int) -> dict[str, float]:
    """Seconds, peak memory in bytes and loss of one side."""
    command = [sys.executable, __file__, "--side", side, "--tokens", str(tokens), "--seed", str(seed)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def measure(side: str, rows: list[dict[str, Any]], seed: int) -> dict[str, float]:
    """Train on the rows, of which those of the first steps are not timed (about so many: prompts stay whole)."""
    if side == "ours":
        import reward_model.common.environment  # noqa: F401

    times = ends_of_steps()
    _, losses = TRAIN[side](rows, seed)
    seconds = times[-1] - times[WARM_UP_STEPS - 1]
    timed = len(rows) - WARM_UP_STEPS * effective_batch()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"pairs_per_s": timed / seconds, "rss": peak, "loss": second_half(losses)}


def ends_of_steps() -> list[float]:
    """A list that gets the time at the end of every optimizer step of trainings that begin after this."""
    from transformers import TrainerCallback, trainer

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            times.append(time.perf_counter())

    times: list[float] = []
    cast(list[Any], trainer.DEFAULT_CALLBACKS).append(Clock)
    return times


def train_ours(rows: list[dict[str, Any]], seed: int) -> tuple["PreTrainedModel", list[float]]:
    """The model that this project trains, and its losses."""
    from dataclasses import replace

    from reward_model.contract.encoder import Encoder
    from reward_model.modeling.model import build_reward_model
    from reward_model.params import load_params
    from reward_model.training.run import train

    params = replace(load_params().train, seed=seed, num_train_epochs=1)
    encoder = Encoder.load(TOKENIZER)
    model = build_reward_model(BASE, encoder, seed)
    result = train(model, encoder, rows, params)
    return model, [point["loss"] for point in result.curve]


def train_trl(rows: list[dict[str, Any]], seed: int) -> tuple["PreTrainedModel", list[float]]:
    """The model that TRL trains with its defaults, and its losses."""
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl.trainer.reward_config import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer

    from reward_model.modeling.devices import choose_device
    from reward_model.params import load_params

    params = load_params().train
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    dataset = Dataset.from_list(
        [{key: rows[number][key] for key in ("chosen_ids", "rejected_ids")} for number in order]
    )
    model = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=1, dtype="float32")
    model.config.pad_token_id = tokenizer.pad_token_id
    with tempfile.TemporaryDirectory() as folder:
        config = RewardConfig(
            output_dir=folder,
            use_cpu=choose_device(params.device).type == "cpu",
            per_device_train_batch_size=effective_batch(),
            learning_rate=params.learning_rate,
            warmup_steps=params.warmup_ratio,
            num_train_epochs=1,
            max_length=MAX_LENGTH,
            train_sampling_strategy="sequential",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=seed,
        )
        trainer = RewardTrainer(model=model, args=config, processing_class=tokenizer, train_dataset=dataset)
        trainer.train()
    return model, [entry["loss"] for entry in trainer.state.log_history if "learning_rate" in entry]


TRAIN = {"ours": train_ours, "trl": train_trl}


def second_half(losses: list[float]) -> float:
    """The mean over the later steps."""
    later = losses[len(losses) // 2 :]
    return sum(later) / len(later)


def describe_run(measured: dict[str, float]) -> str:
    """One side's figures for people."""
    return "{pairs_per_s:.2f} pairs/s, {gigabytes:.1f} GB, loss {loss:.3f}".format(
        gigabytes=measured["rss"] / 1e9, **measured
    )


def summary(ours: list[dict[str, float]], trl: list[dict[str, float]]) -> dict[str, Any]:
    """Medians, and the ratios of the rounds."""
    return {
        "pairs_per_s": median(run["pairs_per_s"] for run in ours),
        "trl_pairs_per_s": median(run["pairs_per_s"] for run in trl),
        "speedup": median(one["pairs_per_s"] / other["pairs_per_s"] for one, other in zip(ours, trl, strict=True)),
        "speedup_of_rounds": [one["pairs_per_s"] / other["pairs_per_s"] for one, other in zip(ours, trl, strict=True)],
        "rss": median(run["rss"] for run in ours),
        "trl_rss": median(run["rss"] for run in trl),
        "rss_ratio": median(one["rss"] / other["rss"] for one, other in zip(ours, trl, strict=True)),
        "loss": median(run["loss"] for run in ours),
        "trl_loss": median(run["loss"] for run in trl),
    }


if __name__ == "__main__":
    main()
