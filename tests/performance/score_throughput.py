"""How fast a file of pairs is scored, beside `transformers.pipeline(batch_size=8)` with the same model in the same run.

    python tests/performance/score_throughput.py [--pairs 1000] [--rounds 4] [--bf16]

The pairs are those of data/pairs. Each round scores its share of them with both, in turn. The last line is JSON:
`pairs_per_s`, `pipeline_pairs_per_s`, `speedup` (over all rounds), `speedup_of_rounds`, `max_abs_diff` (of rewards
that need no cutting), and with bf16 the same figures for it, and how far it is from fp32. Writes no tracked file.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, "stages")

import reward_model.common.environment  # noqa: F401

# isort: split

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TextClassificationPipeline

from reward_model import RewardModelManager
from reward_model.common.files import read_jsonl, write_jsonl
from reward_model.modeling.devices import choose_device, choose_dtype

SETS = ("train", "validation", "heldout")
SIDES = ("chosen", "rejected")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--model", default="models/export")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="also where the hardware is not fast at it")
    options = parser.parse_args()
    pairs = [row for name in SETS for row in read_jsonl(Path(f"data/pairs/{name}.jsonl"))]
    random.Random(options.seed).shuffle(pairs)
    pairs = pairs[: options.pairs]
    manager = loaded(options.model, "fp32")
    with_bf16 = options.bf16 or choose_dtype("auto", choose_device("auto")) == torch.bfloat16
    half = loaded(options.model, "bf16") if with_bf16 else None
    pipeline = build_pipeline(options.model)
    for scorer in (manager, pipeline, half or manager):
        timed(scorer, pairs[:8])
    ours, theirs, in_half = [], [], []
    rewards: list[list[float]] = []
    half_rewards: list[list[float]] = []
    their_rewards: list[list[float]] = []
    for number in range(options.rounds):
        share = pairs[number :: options.rounds]
        seconds, found = timed(manager, share)
        ours.append(seconds)
        rewards += found
        seconds, found = timed(pipeline, share)
        theirs.append(seconds)
        their_rewards += found
        if half:
            seconds, found = timed(half, share)
            in_half.append(seconds)
            half_rewards += found
        print(f"round {number + 1}: {len(share)} pairs, {ours[-1]:.1f} s, pipeline {theirs[-1]:.1f} s", flush=True)
    order = [pair for number in range(options.rounds) for pair in pairs[number :: options.rounds]]
    whole = [fits(manager, pair) for pair in order]
    figures: dict[str, Any] = {
        "pairs": len(pairs),
        "pairs_per_s": len(pairs) / sum(ours),
        "pipeline_pairs_per_s": len(pairs) / sum(theirs),
        "speedup": sum(theirs) / sum(ours),
        "speedup_of_rounds": [their / our for our, their in zip(ours, theirs, strict=True)],
        "uncut_pairs": sum(whole),
        "max_abs_diff": difference(
            [found for found, uncut in zip(rewards, whole, strict=True) if uncut],
            [found for found, uncut in zip(their_rewards, whole, strict=True) if uncut],
        ),
    }
    if half:
        figures |= {
            "bf16_speedup": sum(theirs) / sum(in_half),
            "bf16_max_abs_diff": difference(rewards, half_rewards),
            "bf16_same_preference": agreement(rewards, half_rewards),
        }
    print(json.dumps(figures))


def loaded(model: str, precision: str) -> RewardModelManager:
    manager = RewardModelManager(precision=precision)
    manager.load_trained_model(model)
    return manager


def build_pipeline(model: str) -> TextClassificationPipeline:
    """As a user would: the exported folder, its own tokenizer, batches of eight in the order of the file."""
    return TextClassificationPipeline(
        model=AutoModelForSequenceClassification.from_pretrained(model),
        tokenizer=AutoTokenizer.from_pretrained(model),
        device=choose_device("auto"),
        batch_size=8,
        function_to_apply="none",
    )


def timed(
    scorer: RewardModelManager | TextClassificationPipeline, pairs: list[dict[str, Any]]
) -> tuple[float, list[list[float]]]:
    """Seconds to score a file of pairs, and the rewards of chosen and rejected."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
        write_jsonl(source, pairs)
        start = time.perf_counter()
        if isinstance(scorer, RewardModelManager):
            scorer.score_file(source, target)
            seconds = time.perf_counter() - start
            return seconds, [[row["reward_chosen"], row["reward_rejected"]] for row in read_jsonl(target)]
        scores = score_with_pipeline(scorer, source, target)
        return time.perf_counter() - start, scores


def score_with_pipeline(pipeline: TextClassificationPipeline, source: Path, target: Path) -> list[list[float]]:
    tokenizer = pipeline.tokenizer
    assert tokenizer is not None
    texts = [
        str(
            tokenizer.apply_chat_template(
                [*pair["prompt"], {"role": "assistant", "content": pair[side]}], tokenize=False
            )
        )
        for pair in read_jsonl(source)
        for side in SIDES
    ]
    found = pipeline(texts, add_special_tokens=False, truncation=True, max_length=512)
    flat = [item["score"] for item in found]
    scores = [list(of_pair) for of_pair in zip(flat[::2], flat[1::2], strict=True)]
    write_jsonl(target, [{"rewards": of_pair} for of_pair in scores])
    return scores


def fits(manager: RewardModelManager, pair: dict[str, Any]) -> bool:
    """Whether the pair needs no cutting, so that both computed the same."""
    encoder = manager._loaded().encoder
    encoded = encoder.encode(pair["prompt"], [pair[side] for side in SIDES])
    return encoded.prompt_tokens_cut == 0 and not any(encoded.response_tokens_cut)


def difference(one: list[list[float]], other: list[list[float]]) -> float:
    return max(abs(a - b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


def agreement(one: list[list[float]], other: list[list[float]]) -> float:
    same = [(a > b) == (c > d) for (a, b), (c, d) in zip(one, other, strict=True)]
    return sum(same) / len(same)


if __name__ == "__main__":
    main()
