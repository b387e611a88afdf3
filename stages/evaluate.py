"""Judge the trained model: models/reward, data/tokens, data/baselines → metrics, data/evaluation.

    python stages/evaluate.py

`heldout` are pairs whose prompts are in no other split; then come the external sets. The calibration is fitted on the
validation pairs, temperature and noise margin on late training pairs, too. metrics/eval.json has the figures,
metrics/*.json what the plots show, data/evaluation the rewards of every pair.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import reward_model.common.environment  # noqa: F401
from reward_model.common.errors import UserError, run
from reward_model.common.files import new_folder, read_json, read_jsonl, write_json
from reward_model.common.tables import read_parquet, write_parquet
from reward_model.data.evaluation_sets import HELDOUT, evaluation_sets
from reward_model.evaluation import plots
from reward_model.evaluation.calibration import UNSEEN_FILE, Calibration
from reward_model.evaluation.external_scores import external_scores
from reward_model.evaluation.fit_calibration import JUDGED, fit_calibration
from reward_model.evaluation.judges import judge_figures
from reward_model.evaluation.metrics import evaluate_pairs
from reward_model.evaluation.reference_columns import REFERENCES_FILE
from reward_model.evaluation.reference_models import pairs_as_scored_by, reference_figures
from reward_model.evaluation.report import set_report
from reward_model.modeling.batching import pairs_to_groups
from reward_model.modeling.model import load_reward_model
from reward_model.params import EvaluateParams, Params, load_params
from reward_model.scoring.inference import prepare_for_scoring, score_sides

if TYPE_CHECKING:
    from transformers import PreTrainedModel

REWARD = Path("models/reward")
METRICS = Path("metrics")
BASELINES = Path("data/baselines")
JUDGES = Path("data/pairs/judges.jsonl")
SCORED = ["chosen_reward", "rejected_reward"]


def main() -> None:
    params = load_params()
    model, encoder = load_reward_model(REWARD)
    pad_token_id = encoder.contract.pad_token_id
    rows = read_parquet(Path("data/tokens/validation.parquet"))
    # In the precision that rewards are given in by default, whatever the training's was.
    prepare_for_scoring(model, pairs_to_groups(rows), pad_token_id, params.train.device, "fp32")
    score = partial(score_rows, model, pad_token_id, params.evaluate)
    validation = score(rows, "validation")
    unseen = pd.DataFrame(read_parquet(REWARD / UNSEEN_FILE), columns=[*JUDGED])
    calibration = fit_calibration(validation, unseen)
    sets = evaluation_sets()
    scored = {each.name: with_baselines(score(read_parquet(each.tokens), each.name), each.name) for each in sets}
    judge = partial(compute_figures, calibration, params.evaluate, params.train.seed)
    figures = {name: judge(pairs) for name, pairs in scored.items()}
    references = read_json(BASELINES / REFERENCES_FILE)
    for name, pairs in scored.items() if references else ():
        figures[name]["reference_models"] = compare(references, calibration, params, pairs)
    if JUDGES.exists():  # of the sample
        judges = judge_figures(read_jsonl(JUDGES), params.evaluate.bootstrap_samples, params.train.seed)
        figures[HELDOUT]["judges"] = judges
    calibration.save(METRICS / "calibration.json")
    write_json(METRICS / "eval.json", figures)
    write_plots(scored, references, calibration.temperature)
    with new_folder(Path("data/evaluation")) as folder:
        for name, pairs in scored.items():
            write_parquet(folder / f"{name}.parquet", pairs.to_dict("records"))
    print("\n\n".join([calibration_report(calibration), *(set_report(name, own) for name, own in figures.items())]))
    for name, reason in read_json(METRICS / "external_sets.json")["skipped"].items():
        print(f"\n{name}: skipped: {reason}")


def score_rows(
    model: "PreTrainedModel", pad_token_id: int, params: EvaluateParams, rows: list[dict[str, Any]], name: str
) -> pd.DataFrame:
    """A table of rows of data/tokens without their tokens, with the rewards of both sides."""
    rewards = score_sides(model, rows, pad_token_id, params.batch_size, name)
    columns = dict(zip(SCORED, rewards, strict=True))
    return pd.DataFrame(rows).drop(columns=["chosen_ids", "rejected_ids"]).assign(**columns)


def with_baselines(pairs: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table with the columns that the baselines stage made.

    Raises:
        UserError: those are of other pairs.
    """
    baselines = pd.DataFrame(read_parquet(BASELINES / f"{name}.parquet"))
    if baselines["id"].tolist() != pairs["id"].tolist():
        raise UserError(f"{BASELINES / name}.parquet is of other pairs: run `dvc repro`")
    return pairs.join(baselines.drop(columns="id"))


def compute_figures(calibration: Calibration, params: EvaluateParams, seed: int, pairs: pd.DataFrame) -> dict[str, Any]:
    """A set's figures, with those of its benchmark if it is one."""
    own = evaluate_pairs(pairs, calibration.temperature, bootstrap_samples=params.bootstrap_samples, seed=seed)
    return own | (external_scores(pairs["format"].iloc[0], pairs) if "format" in pairs else {})


def compare(
    references: list[dict[str, Any]], calibration: Calibration, params: Params, pairs: pd.DataFrame
) -> dict[str, Any]:
    """The reference models' figures on a set, with those of its benchmark if it is one."""
    found = reference_figures(
        pairs,
        references,
        calibration.temperature,
        bootstrap_samples=params.evaluate.bootstrap_samples,
        seed=params.train.seed,
    )
    for number, reference in enumerate(references):
        if "format" in pairs and reference["name"] in found:
            found[reference["name"]] |= external_scores(pairs["format"].iloc[0], pairs_as_scored_by(pairs, number))
    return found


def write_plots(scored: dict[str, pd.DataFrame], references: list[dict[str, Any]], temperature: float) -> None:
    """Write what the plots of dvc.yaml show; the reference models have lines of their own in accuracy by length."""
    theirs = {
        f"{name}: {reference['name']}": own
        for number, reference in enumerate(references)
        for name, pairs in scored.items()
        if len(own := pairs_as_scored_by(pairs, number))
    }
    write_json(METRICS / "margins.json", plots.margin_histograms(scored))
    write_json(METRICS / "reliability.json", plots.reliability_diagram(scored, temperature))
    write_json(METRICS / "accuracy_by_length.json", plots.accuracy_by_length(scored | theirs))
    write_json(METRICS / "reward_by_length.json", plots.rewards_by_length(scored))


def calibration_report(calibration: Calibration) -> str:
    """The calibration for people."""
    return (
        f"calibration on {calibration.pairs} validation pairs and {calibration.training_pairs} training pairs before "
        f"they were trained on: temperature {calibration.temperature:.2f}, within noise up to a margin of "
        f"{calibration.noise_margin:.2f}"
    )


if __name__ == "__main__":
    run(main)
