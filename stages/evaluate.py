"""Score held-out pairs: models/reward, data/tokens → metrics/{eval,calibration,margins}.json.

    python stages/evaluate.py

`heldout` are the test pairs, whose prompts were in no other split; `mt_bench_human` are pairs judged by experts.
The calibration is fitted on the validation pairs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

import reward_model.environment  # noqa: F401
from reward_model.batching import groups_of
from reward_model.calibration import fit_calibration
from reward_model.device_check import choose_compute
from reward_model.errors import run
from reward_model.files import write_json
from reward_model.metrics import ScoredPair, evaluate_pairs, margin_histograms, rewards_of
from reward_model.model import load_reward_model, prepare_for_scoring, score_groups
from reward_model.params import EvaluateParams, load_params
from reward_model.tables import read_parquet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = Path("data/tokens")
SETS = {"heldout": "test", "mt_bench_human": "mt_bench_human"}


def main() -> None:
    params = load_params()
    model, encoder = load_reward_model(Path("models/reward"))
    pad_token_id = encoder.contract.pad_token_id
    files = {"validation": "validation", **SETS}
    rows = {name: read_parquet(TOKENS / f"{file}.parquet") for name, file in files.items()}
    compute = choose_compute(
        model, groups_of(rows["validation"]), pad_token_id, params.train.device, params.train.precision
    )
    prepare_for_scoring(model, compute.device, compute.dtype)
    scored = {name: score_rows(model, of_set, pad_token_id, params.evaluate, name) for name, of_set in rows.items()}
    validation = scored.pop("validation")
    calibration = fit_calibration(*rewards_of(validation), [pair.prompt_id for pair in validation])
    samples, seed = params.evaluate.bootstrap_samples, params.train.seed
    figures = {name: evaluate_pairs(pairs, bootstrap_samples=samples, seed=seed) for name, pairs in scored.items()}
    write_json(Path("metrics/eval.json"), figures)
    calibration.save(Path("metrics/calibration.json"))
    write_json(Path("metrics/margins.json"), margin_histograms(scored))
    print(
        f"calibration on {calibration.pairs} validation pairs: temperature {calibration.temperature:.2f}, within noise "
        f"up to a margin of {calibration.noise_margin:.2f}"
    )
    print("\n".join(summary(name, of_set) for name, of_set in figures.items()))


def score_rows(
    model: "PreTrainedModel", rows: list[dict[str, Any]], pad_token_id: int, params: EvaluateParams, name: str
) -> list[ScoredPair]:
    """Score rows of data/tokens, in their order."""
    groups = groups_of(rows)
    scores = score_groups(model, groups, pad_token_id, params.batch_size)
    by_number = dict(tqdm(scores, total=len(groups), unit="pair", desc=name))
    return [
        ScoredPair(
            prompt_id=row["prompt_id"],
            chosen_reward=by_number[number][0],
            rejected_reward=by_number[number][1],
            chosen_characters=row["chosen_characters"],
            rejected_characters=row["rejected_characters"],
        )
        for number, row in enumerate(rows)
    ]


def summary(name: str, of_set: dict[str, Any]) -> str:
    """A set's figures for people, with what speaks against them."""
    low, high = of_set["accuracy_ci95"]
    return (
        f"{name}: accuracy {of_set['accuracy']:.1%} (95% interval {low:.1%} to {high:.1%}) on {of_set['n']} pairs, "
        f"log loss {of_set['loss']:.3f}, {of_set['ties']} ties; always preferring the longer response: "
        f"{of_set['longer_wins']:.1%}"
    )


if __name__ == "__main__":
    run(main)
