"""The rewards that the request code of OpenRLHF and of LLaMA-Factory gets of the server, beside score.py's.

    pip install --no-deps --target PACKAGES openrlhf==0.11.2 llamafactory==0.9.5
    python tests/performance/compare_trainers.py --packages PACKAGES [--pairs 20] [--model models/export]

Their two modules are imported alone, since the rest of those packages needs a GPU's libraries; it takes aiohttp and
requests. The pairs are the first of `--data`. The last line is JSON: `responses`, and `max_abs_diff` for each of the
two. Writes no file.
"""

import argparse
import asyncio
import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, "stages")

from serve_load import server

from reward_model import RewardModelManager
from reward_model.common.files import read_jsonl

SIDES = ("chosen", "rejected")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--model", default="models/export")
    parser.add_argument("--data", type=Path, default=Path("data/pairs/heldout.jsonl"))
    options = parser.parse_args()
    manager = RewardModelManager()
    manager.load_trained_model(options.model)
    pairs = read_jsonl(options.data)[: options.pairs]
    asked = [(pair["prompt"], pair[side]) for pair in pairs for side in SIDES]
    expected = [manager.get_reward_score(response, prompt) for prompt, response in asked]
    render = manager.scorer.encoder.render
    texts = [render([*prompt, {"role": "assistant", "content": response}]) for prompt, response in asked]
    with server(["--model", options.model]) as port:
        found = {
            "openrlhf": asyncio.run(ask_by_openrlhf(options.packages, f"http://127.0.0.1:{port}/get_reward", texts)),
            "llamafactory": ask_by_llamafactory(
                options.packages, f"http://127.0.0.1:{port}/v1/score/evaluation", texts
            ),
        }
    differences = {
        name: max(abs(a - b) for a, b in zip(rewards, expected, strict=True)) for name, rewards in found.items()
    }
    print(json.dumps({"responses": len(texts), "max_abs_diff": differences}))


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
