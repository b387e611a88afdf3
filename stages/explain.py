"""Explain rewards of the worst-ranked pairs: models/reward, data/evaluation → data/explanations.jsonl.

    python stages/explain.py

The report shows them. A line a pair: its set, its id, and an explanation of each side; what its figures mean says
reward_model/scoring/explanation.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import reward_model.common.environment  # noqa: F401
from reward_model.common.errors import run
from reward_model.common.files import write_jsonl
from reward_model.common.progress import progress
from reward_model.data.evaluation_sets import EvaluationSet, evaluation_sets
from reward_model.data.pairs import Pair
from reward_model.evaluation.calibration import Calibration
from reward_model.evaluation.worst_pairs import EXPLANATIONS, read_worst_pairs
from reward_model.params import Params, load_params
from reward_model.scoring.explanation import explain
from reward_model.scoring.scorer import Scorer
from reward_model.scoring.torch_backend import TorchBackend

REWARD = Path("models/reward")


def main() -> None:
    params = load_params()
    sets = {each.name: worst_pairs(each, params.evaluate.explained_pairs) for each in evaluation_sets()}
    write_jsonl(EXPLANATIONS, explain_pairs(params, sets) if any(sets.values()) else ())
    print(f"{EXPLANATIONS}: {', '.join(f'{len(pairs)} pairs of {name}' for name, pairs in sets.items())}")


def worst_pairs(each: EvaluationSet, count: int) -> list[Pair]:
    """The pairs that the model ranks against the label, those furthest from it first."""
    rows, pairs = read_worst_pairs(each)
    return [pair for row, pair in zip(rows, pairs, strict=True) if row["gap"] < 0][:count]


def explain_pairs(params: Params, sets: Mapping[str, Sequence[Pair]]) -> Iterator[dict[str, Any]]:
    """A row a pair."""
    backend, encoder = TorchBackend.load(REWARD, params.train.device, "fp32")
    scorer = Scorer(backend, encoder, Calibration(), params.evaluate.batch_size, fingerprint="")
    for name, pairs in sets.items():
        for pair in progress(pairs, f"explain {name}"):
            chosen, rejected = explain(scorer, pair.prompt, [pair.chosen, pair.rejected])
            yield {"set": name, "id": pair.id, "chosen": asdict(chosen), "rejected": asdict(rejected)}


if __name__ == "__main__":
    run(main)
