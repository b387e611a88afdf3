"""The server's rewards beside those of score.py on a file and of plain transformers, for the same held-out pairs.

    python tests/performance/compare_server.py [--pairs 100] [--backend onnx] [--model models/export]

With `--packages PACKAGES` also those that the request code of two trainers gets of the server; it takes aiohttp and
requests, and their two modules are imported alone, since the rest of the packages needs the libraries of a GPU:

    pip install --no-deps --target PACKAGES openrlhf==0.11.2 llamafactory==0.9.5

The pairs are the first of `--data` that need no cutting, which transformers would not do. The last line is JSON:
`responses`, and `max_abs_diff` between the rewards of `/score` and those of each of the others. Writes no file.
"""

import argparse
import asyncio
import http.client
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, "stages")

from serve_load import ask, score_file, server

from reward_model import RewardModelManager
from reward_model.common.files import read_jsonl

SIDES = ("chosen", "rejected")
Chat = list[dict[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--backend", choices=["onnx", "torch"], default="onnx")
    parser.add_argument("--model", default="models/export")
    parser.add_argument("--data", type=Path, default=Path("data/pairs/heldout.jsonl"))
    parser.add_argument("--packages", type=Path)
    options = parser.parse_args()
    manager = RewardModelManager()
    _, tokenizer = manager.load_trained_model(options.model)
    pairs = [pair for pair in read_jsonl(options.data) if fits(manager, pair)][: options.pairs]
    chats = [[*pair["prompt"], {"role": "assistant", "content": pair[side]}] for pair in pairs for side in SIDES]
    scored, _ = score_file(pairs, ["--model", options.model])
    with server(["--model", options.model, "--backend", options.backend]) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        served = of_sides(ask(connection, {name: pair[name] for name in ("prompt", *SIDES)}) for pair in pairs)
        others = {"score.py": of_sides(scored), "transformers": score_by_transformers(options.model, chats)}
        if options.packages:
            texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
            others |= ask_by_trainers(options.packages, f"http://127.0.0.1:{port}", texts)
    differences = {name: max(abs(a - b) for a, b in zip(of, served, strict=True)) for name, of in others.items()}
    print(json.dumps({"responses": len(served), "max_abs_diff": differences}))


def fits(manager: RewardModelManager, pair: dict[str, Any]) -> bool:
    return not manager.encode(pair["prompt"], [pair[side] for side in SIDES]).is_cut


def of_sides(rows: Any) -> list[float]:
    return [row[f"reward_{side}"] for row in rows for side in SIDES]


def score_by_transformers(folder: str, chats: Sequence[Chat]) -> list[float]:
    """What a user of transformers gets, one conversation at a time."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return [
            model(**tokenizer.apply_chat_template(chat, return_tensors="pt", return_dict=True)).logits[0, 0].item()
            for chat in chats
        ]


def ask_by_trainers(packages: Path, address: str, texts: list[str]) -> dict[str, list[float]]:
    return {
        "openrlhf": asyncio.run(ask_by_openrlhf(packages, f"{address}/get_reward", texts)),
        "llamafactory": ask_by_llamafactory(packages, f"{address}/v1/score/evaluation", texts),
    }


async def ask_by_openrlhf(packages: Path, url: str, texts: list[str]) -> list[float]:
    """One request for each text, all at a time, as its rollouts send them."""
    executor = import_alone(packages, "openrlhf.utils.agent").SingleTurnAgentExecutor(url)
    fetch = executor._fetch_rewards_via_http
    answers = await asyncio.gather(*(fetch([text], ["prompt"], [None]) for text in texts))
    return [reward for [answer] in answers for reward in answer["rewards"]]


def ask_by_llamafactory(packages: Path, url: str, texts: list[str]) -> list[float]:
    """All texts in one request."""
    return import_alone(packages, "llamafactory.train.ppo.ppo_utils").get_rewards_from_server(url, texts).tolist()


def import_alone(packages: Path, name: str) -> Any:
    """A module, without what the packages that it is in import when they are imported."""
    parents = name.split(".")[:-1]
    for depth in range(1, len(parents) + 1):
        package = ModuleType(".".join(parents[:depth]))
        package.__path__ = [str(packages.joinpath(*parents[:depth]))]
        sys.modules[package.__name__] = package
    return import_module(name)


if __name__ == "__main__":
    main()
