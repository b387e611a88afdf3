"""The rewards of a vLLM server beside score.py's, for the same held-out responses.

    vllm serve models/export --runner pooling --max-model-len 512 --dtype float32   # in vLLM's own environment
    python tests/performance/compare_vllm.py [--url http://127.0.0.1:8000] [--pairs 40]

The pairs are those of `--data` that need no cutting: vLLM refuses longer ones. `--model` is the folder as vLLM was
told it. Start vLLM with `--dtype bfloat16` for how far that is from float32. The last line is JSON: `responses`,
`max_abs_diff_input` (rendered texts), `max_abs_diff_messages`, and `same_preference`, the share of the pairs in which
both prefer the same response. Writes no file.
"""

import argparse
import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, "stages")

from reward_model import RewardModelManager
from reward_model.common.files import read_jsonl

SIDES = ("chosen", "rejected")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--model", default="models/export")
    parser.add_argument("--data", type=Path, default=Path("data/pairs/heldout.jsonl"))
    options = parser.parse_args()
    manager = RewardModelManager()
    manager.load_trained_model(options.model)
    rows = (row for row in read_jsonl(options.data) if fits(manager, row))
    pairs = [row for row, _ in zip(rows, range(options.pairs), strict=False)]
    ours = [reward for pair in manager.score_pairs(pairs) for reward in (pair.reward_a, pair.reward_b)]
    chats = [[*pair["prompt"], {"role": "assistant", "content": pair[side]}] for pair in pairs for side in SIDES]
    texts = [manager.scorer.encoder.render(chat) for chat in chats]
    by_input = classify(options.url, {"model": options.model, "input": texts})
    by_messages = [
        reward for chat in chats for reward in classify(options.url, {"model": options.model, "messages": chat})
    ]
    figures = {
        "responses": len(ours),
        "max_abs_diff_input": difference(ours, by_input),
        "max_abs_diff_messages": difference(ours, by_messages),
        "same_preference": agreement(ours, by_input),
    }
    print(json.dumps(figures))


def fits(manager: RewardModelManager, pair: dict[str, Any]) -> bool:
    return not manager.encode(pair["prompt"], [pair[side] for side in SIDES]).is_cut


def classify(url: str, asked: dict[str, Any]) -> list[float]:
    """The rewards that vLLM gives, in the order asked."""
    body = json.dumps(asked).encode()
    request = urllib.request.Request(f"{url}/classify", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return [item["probs"][0] for item in json.load(response)["data"]]


def difference(one: list[float], other: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def agreement(one: list[float], other: list[float]) -> float:
    ours, theirs = ([a > b for a, b in zip(side[::2], side[1::2], strict=True)] for side in (one, other))
    return sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours)


if __name__ == "__main__":
    main()
