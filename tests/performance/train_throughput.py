"""How fast and in how much memory this project trains, beside stock TRL on the same pairs in the same run.

    python tests/performance/train_throughput.py [--mix sample|PATH] [--responses N] [--pairs 48] [--rounds 3]

The sample is data/pairs/train.jsonl; PATH is any file of pairs that the prepare stage reads, cut to 512 tokens. Whole
prompts are taken, until they have as many pairs as asked for. With --responses N they are prompts with N responses or
more, and the pairs all comparisons of N of them, which way round is made up.
TRL's RewardTrainer runs with its defaults; only what both must share is set: the base, the pairs as token ids, one
epoch, the effective batch of params.yaml (or all comparisons of a prompt, if those are more), its learning rate and
schedule. Each side trains in a process of its own, in turn; its first two steps are the warm-up and are not timed.
`loss` is the mean over the second half of the steps, as the pairs are met in training.
The last line is JSON: medians over the rounds. Writes no tracked file.
"""

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from reward_model.data.pairs import Pair

sys.path.insert(0, "stages")

MAX_LENGTH = 512
WARM_UP_STEPS = 2
TOKENIZER = Path("data/tokens/tokenizer")
BASE = Path("models/base")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mix", default="sample", help="sample, or a file of pairs (%(default)s)")
    parser.add_argument("--responses", type=int, metavar="N", help="all comparisons of N responses a prompt")
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", choices=["ours", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, **json.loads(options.tokens.read_text()), seed=options.seed)))
        return
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens.json"
        batch = max(effective_batch(), math.comb(options.responses or 0, 2))
        rows = tokenized_pairs(options.mix, options.responses, WARM_UP_STEPS * batch + options.pairs, options.seed)
        tokens.write_text(json.dumps({"rows": rows, "batch": batch}))
        found: dict[str, list[dict[str, float]]] = {"ours": [], "trl": []}
        for number in range(options.rounds):
            for side, measured in found.items():
                measured.append(in_own_process(side, tokens, options.seed + number))
                print(f"round {number + 1}, {side}: {describe_run(measured[-1])}", flush=True)
    asked = {"mix": options.mix, "responses": options.responses, "pairs": len(rows)}
    print(json.dumps(asked | summary(found["ours"], found["trl"])))


def tokenized_pairs(mix: str, responses: int | None, count: int, seed: int) -> list[dict[str, Any]]:
    """Pairs of whole prompts as rows of data/tokens, `count` or a few more."""
    from reward_model.contract.encoder import Encoder
    from reward_model.data.pair_reader import pair_from_row
    from reward_model.data.pairs import Pair, parse_pairs
    from reward_model.data.readers import read_rows
    from reward_model.data.row_formats import Columns
    from reward_model.data.tokens import encode_pairs

    path = Path("data/pairs/train.jsonl") if mix == "sample" else Path(mix)
    by_prompt: dict[str, list[Pair]] = defaultdict(list)
    for pair in parse_pairs(read_rows(path), lambda row: pair_from_row(row, Columns(), path.name)).pairs:
        by_prompt[pair.prompt_id].append(pair)
    prompts = list(by_prompt.values()) if responses is None else all_comparisons(by_prompt.values(), responses)
    encoder = Encoder.load(TOKENIZER).with_max_length(MAX_LENGTH)
    rows: list[dict[str, Any]] = []
    for pairs in random.Random(seed).sample(prompts, len(prompts)):
        if len(rows) < count:
            rows += encode_pairs(encoder, pairs)[0]
    if len(rows) < count:
        raise SystemExit(f"error: {path} has {len(rows)} such pairs, {count} are wanted: give a lower --pairs")
    return rows


def all_comparisons(prompts: "Iterable[list[Pair]]", responses: int) -> "list[list[Pair]]":
    """Of each prompt with enough responses, every comparison of the first ones."""
    from dataclasses import replace

    found = []
    for pairs in prompts:
        texts = list(dict.fromkeys(text for pair in pairs for text in (pair.chosen, pair.rejected)))[:responses]
        if len(texts) == responses:
            found.append([replace(pairs[0], chosen=one, rejected=other) for one, other in combinations(texts, 2)])
    return found


def effective_batch() -> int:
    """Pairs in an optimizer step."""
    from reward_model.params import load_params

    params = load_params().train
    return params.per_device_train_batch_size * params.gradient_accumulation_steps


def in_own_process(
    side: str, tokens: Path, seed: int, environment: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Pairs/s, peak memory in bytes and loss of one side, with the variables of `environment` or of this process."""
    command = [sys.executable, __file__, "--side", side, "--tokens", str(tokens), "--seed", str(seed)]
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def measure(side: str, rows: list[dict[str, Any]], batch: int, seed: int) -> dict[str, float]:
    """Train on the rows; the first steps are not timed."""
    if side == "ours":
        import reward_model.common.environment  # noqa: F401

    times = ends_of_steps()
    _, losses = TRAIN[side](rows, seed, batch)
    seconds = times[-1] - times[WARM_UP_STEPS - 1]
    timed = len(rows) * (1 - WARM_UP_STEPS / len(times))
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


def train_ours(
    rows: list[dict[str, Any]], seed: int, batch: int | None = None
) -> tuple["PreTrainedModel", list[float]]:
    """The model that this project trains, and its losses; `batch`: the effective batch, else that of params.yaml."""
    from dataclasses import replace

    from reward_model.contract.encoder import Encoder
    from reward_model.modeling.model import build_reward_model
    from reward_model.params import load_params
    from reward_model.training.run import train

    params = replace(load_params().train, seed=seed, num_train_epochs=1, freeze_layers=0)  # TRL trains all layers
    if batch is not None:
        steps = -(-batch // params.per_device_train_batch_size)
        params = replace(params, gradient_accumulation_steps=steps)
    encoder = Encoder.load(TOKENIZER)
    model = build_reward_model(BASE, encoder, seed)
    result = train(model, encoder, rows, params)
    return model, [point["loss"] for point in result.curve]


def train_trl(rows: list[dict[str, Any]], seed: int, batch: int | None = None) -> tuple["PreTrainedModel", list[float]]:
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
            per_device_train_batch_size=batch or effective_batch(),
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
