"""Other reward models beside the trained one, on the same pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reward_model.common.accuracy import pair_accuracy
from reward_model.evaluation.bootstrap import Bootstrap, FloatArray, to_list
from reward_model.evaluation.margins import compute_margins, log_loss, log_losses, read_labels
from reward_model.evaluation.metrics import accuracy_figures, verdict
from reward_model.evaluation.reference_columns import reference_columns


def pairs_as_scored_by(pairs: pd.DataFrame, number: int) -> pd.DataFrame:
    """The pairs that a reference model takes, with its rewards in place of the trained model's."""
    chosen, rejected = reference_columns(number)
    return pairs.assign(chosen_reward=pairs[chosen], rejected_reward=pairs[rejected]).dropna(
        subset=["chosen_reward", "rejected_reward"]
    )


def reference_figures(
    pairs: pd.DataFrame,
    references: Sequence[Mapping[str, Any]],
    temperature: float,
    *,
    bootstrap_samples: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """What each reference model reaches, and by how much the trained model is ahead of it.

    Log losses are compared at fitted temperatures, since rewards of different models have different scales: theirs are
    fitted on the validation pairs, the trained model's on late training pairs, too.

    Args:
        pairs: the table of `metrics`, with `reference_columns`.
        references: name and temperature of each.
        temperature: the trained model's.
        bootstrap_samples: resamplings of prompts behind each interval.
        seed: of the resampling.

    Returns:
        By name: n, accuracy and accuracy_ci95; loss, and loss_uncalibrated, of the margins as they are; temperature;
        gain of the trained model in accuracy, and loss_gain, each as gain, ci95 (paired) and a verdict. A model that
        takes none of the pairs is left out.
    """
    found = {}
    for number, reference in enumerate(references):
        theirs = pairs_as_scored_by(pairs, number)
        if len(theirs):
            bootstrap = Bootstrap(theirs["prompt_id"].tolist(), bootstrap_samples, seed)
            found[reference["name"]] = _beside(pairs.loc[theirs.index], theirs, reference, temperature, bootstrap)
    return found


def _beside(
    ours: pd.DataFrame, theirs: pd.DataFrame, reference: Mapping[str, Any], temperature: float, bootstrap: Bootstrap
) -> dict[str, Any]:
    name, labels = reference["name"], read_labels(theirs)
    margins = compute_margins(theirs)
    scaled = margins / reference["temperature"]
    correct = pair_accuracy(margins)
    gains = pair_accuracy(compute_margins(ours)) - correct
    loss_gains = log_losses(scaled, labels) - log_losses(compute_margins(ours) / temperature, labels)
    return {
        **accuracy_figures(correct, bootstrap),
        "loss": log_loss(scaled, labels),
        "loss_uncalibrated": log_loss(margins, labels),
        "temperature": reference["temperature"],
        "accuracy_gain": _gain(name, gains, bootstrap, bootstrap.bounded_interval(gains, -1, 1)),
        "loss_gain": _gain(name, loss_gains, bootstrap, bootstrap.interval(loss_gains)),
    }


def _gain(name: str, gains: FloatArray, bootstrap: Bootstrap, interval: tuple[float, float] | None) -> dict[str, Any]:
    return {
        "gain": float(gains.mean()),
        "ci95": to_list(interval),
        "verdict": verdict(name, interval, bootstrap.differing(gains)),
    }
