"""Figures over scored pairs: how often a model is right, how sure that is, and what simpler rules would reach.

Pairs come as a table (pandas), a row each, with the columns

    prompt_id                                 pairs of one prompt are not independent
    source                                    where a pair comes from
    preference                                if any: the probability that chosen is better; 1 where it is not given
    chosen_reward, rejected_reward            the model's
    chosen_characters, rejected_characters    lengths of the responses
    chosen_lists, rejected_lists, ...         by trait of `response_style.TRAITS`, whether the response has it
    tfidf, frozen_features                    margins that baselines give (`baselines`)

In each figure a tie counts half (`accuracy.pair_accuracy`).
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reward_model.common.accuracy import pair_accuracy
from reward_model.data.response_style import TRAITS
from reward_model.evaluation.bootstrap import Bootstrap, FloatArray, Interval, to_list
from reward_model.evaluation.margins import column, compute_margins, log_loss, log_losses, read_labels

FITTED_BASELINES = ("tfidf", "frozen_features")
ABOUT_EQUAL = 0.1  # lengths that differ by less than this share of the longer one
BINS = 10  # of confidence, from 1/2 to 1
QUANTILES = (5, 25, 50, 75, 95)
MIN_SOURCE_PAIRS = 10  # sources with fewer are taken together
OTHER_SOURCES = "other"
MIN_DIFFERING_PROMPTS = 6  # prompts: with five, a sign test cannot give less than p = 0.0625


def evaluate_pairs(pairs: pd.DataFrame, temperature: float, *, bootstrap_samples: int, seed: int) -> dict[str, Any]:
    """All figures for one set of pairs.

    Args:
        pairs: the table of the module's docstring.
        temperature: as fitted (`calibration.Calibration`).
        bootstrap_samples: resamplings of prompts behind each interval.
        seed: of the resampling.

    Returns:
        n; prompts; accuracy and accuracy_ci95; ties; loss, the mean cross-entropy of sigmoid(margin) with the labels,
        in nats; `margin_figures`;
        `baseline_figures`; loss_gain, as `loss_gain`, over the fitted baselines; length and traits, for what the model
        leans on; calibration; by_source. With fewer than `MIN_PROMPTS` prompts there is no interval (None).
    """
    margins, labels = compute_margins(pairs), read_labels(pairs)
    correct = pair_accuracy(margins)
    bootstrap = Bootstrap(pairs["prompt_id"].tolist(), bootstrap_samples, seed)
    baselines = baseline_margins(pairs)
    return {
        **accuracy_figures(correct, bootstrap),
        "prompts": len(set(bootstrap.prompts)),
        "ties": int((margins == 0).sum()),
        "loss": log_loss(margins, labels),
        **margin_figures(pairs),
        **baseline_figures(correct, baselines, bootstrap),
        "loss_gain": loss_gain(margins, labels, {name: baselines[name] for name in FITTED_BASELINES}, bootstrap),
        "length_matched": group_figures(correct[about_equal_lengths(pairs)]),
        "shorter_preferred": group_figures(correct[length_differences(pairs) < 0]),
        "length_correlation": length_correlation(pairs),
        "traits": {trait: trait_figures(pairs, trait) for trait in TRAITS},
        "calibration": calibration_figures(margins, labels, temperature),
        "by_source": by_source(pairs, bootstrap_samples, seed),
    }


def margin_figures(pairs: pd.DataFrame) -> dict[str, Any]:
    """How margins, and the rewards of chosen and of rejected, are distributed."""
    margins = compute_margins(pairs)
    return {
        "margin_mean": float(margins.mean()),
        "margin_std": float(margins.std()),
        "margin_quantiles": {f"p{q:02d}": float(np.percentile(margins, q)) for q in QUANTILES},
        "rewards": {
            side: {"mean": float(values.mean()), "std": float(values.std())}
            for side in ("chosen", "rejected")
            for values in [column(pairs, f"{side}_reward")]
        },
    }


def baseline_figures(correct: FloatArray, baselines: Mapping[str, FloatArray], bootstrap: Bootstrap) -> dict[str, Any]:
    """What the baselines reach, and by how much the model is ahead of the best of them.

    Args:
        correct: the model's accuracy on each pair.
        baselines: margins by name.
        bootstrap: of the pairs.

    Returns:
        baselines, the accuracy of each, and baselines_ci95; best_baseline; gain_over_best_baseline and its gain_ci95
        (paired); a verdict.
    """
    correct_of = {name: pair_accuracy(values) for name, values in baselines.items()}
    accuracies = {name: float(values.mean()) for name, values in correct_of.items()}
    best = max(accuracies, key=accuracies.__getitem__)
    gains = correct - correct_of[best]
    interval = bootstrap.bounded_interval(gains, -1, 1)
    return {
        "baselines": accuracies,
        "baselines_ci95": {
            name: to_list(bootstrap.bounded_interval(values, 0, 1)) for name, values in correct_of.items()
        },
        "best_baseline": best,
        "gain_over_best_baseline": float(gains.mean()),
        "gain_ci95": to_list(interval),
        "verdict": verdict(best, interval, bootstrap.differing(gains)),
    }


def loss_gain(
    margins: FloatArray, labels: FloatArray, baselines: Mapping[str, FloatArray], bootstrap: Bootstrap
) -> dict[str, Any]:
    """How much lower the model's log loss is than that of the best baseline that gives probabilities.

    Of the margins as they are, at temperature 1: a model that is too sure of itself loses by it.

    Args:
        margins: the model's.
        labels: as `read_labels`.
        baselines: log odds that chosen is the preferred one, by name.
        bootstrap: of the pairs.

    Returns:
        baselines, the log loss of each; best, the name of the one with the lowest; gain and its ci95 (paired), in nats;
        a verdict.
    """
    losses = {name: log_loss(values, labels) for name, values in baselines.items()}
    best = min(losses, key=losses.__getitem__)
    gains = log_losses(baselines[best], labels) - log_losses(margins, labels)
    interval = bootstrap.interval(gains)
    return {
        "baselines": losses,
        "best": best,
        "gain": float(gains.mean()),
        "ci95": to_list(interval),
        "verdict": verdict(best, interval, bootstrap.differing(gains)),
    }


def length_differences(pairs: pd.DataFrame) -> FloatArray:
    """By how many characters chosen is longer, shape (pairs,)."""
    return column(pairs, "chosen_characters") - column(pairs, "rejected_characters")


def baseline_margins(pairs: pd.DataFrame) -> dict[str, FloatArray]:
    """What each rule that knows nothing of the model says of the pairs; above zero: chosen."""
    longer = length_differences(pairs)
    fitted = {name: column(pairs, name) for name in FITTED_BASELINES}
    return {"longer_wins": longer, "shorter_wins": -longer, **fitted}


def verdict(baseline: str, gain_interval: Interval | None, differing: int) -> dict[str, str]:
    """What the paired interval of the gain over the best baseline says.

    Args:
        baseline: the best.
        gain_interval: None if there are too few prompts for one.
        differing: prompts on which model and baseline differ.

    Returns:
        `over`, the baseline, and `outcome`: better, worse, not_shown, too_few_prompts or too_few_differences.
    """
    if gain_interval is None:
        outcome = "too_few_prompts"
    elif gain_interval[0] <= 0 <= gain_interval[1]:
        outcome = "not_shown"
    elif differing < MIN_DIFFERING_PROMPTS:
        outcome = "too_few_differences"
    else:
        outcome = "better" if gain_interval[0] > 0 else "worse"
    return {"outcome": outcome, "over": baseline}


def group_figures(correct: FloatArray) -> dict[str, Any]:
    """Size and accuracy of some of the pairs; no accuracy for none."""
    return {"n": len(correct), "accuracy": float(correct.mean()) if len(correct) else None}


def about_equal_lengths(pairs: pd.DataFrame) -> NDArray[np.bool_]:
    """Which pairs' lengths differ by less than a tenth of the longer one."""
    longest = np.maximum(column(pairs, "chosen_characters"), column(pairs, "rejected_characters"))
    return np.abs(length_differences(pairs)) < ABOUT_EQUAL * longest


def length_correlation(pairs: pd.DataFrame) -> float | None:
    """Spearman's rank correlation of reward difference and length difference within pairs.

    Each pair counts in both directions, so that only within-pair differences matter and the labels do not. None where
    one of the two never differs.
    """
    from scipy.stats import spearmanr

    margins, longer = compute_margins(pairs), length_differences(pairs)
    if not margins.any() or not longer.any():
        return None
    found: Any = spearmanr(np.concatenate([margins, -margins]), np.concatenate([longer, -longer]))
    return float(found.statistic)


def trait_figures(pairs: pd.DataFrame, trait: str) -> dict[str, Any]:
    """Pairs of which one response alone has the trait: how often the labels and the model prefer that one."""
    chosen, rejected = (column(pairs, f"{side}_{trait}") > 0 for side in ("chosen", "rejected"))
    one_alone = chosen != rejected
    if not one_alone.any():
        return {"n": 0, "preferred_by_labels": None, "preferred_by_model": None, "accuracy": None}
    margins, has_it = compute_margins(pairs)[one_alone], chosen[one_alone]
    return {
        "n": int(one_alone.sum()),
        "preferred_by_labels": float(has_it.mean()),
        "preferred_by_model": float(pair_accuracy(np.where(has_it, margins, -margins)).mean()),
        "accuracy": float(pair_accuracy(margins).mean()),
    }


def calibration_figures(margins: FloatArray, labels: FloatArray, temperature: float) -> dict[str, float]:
    """How well sigmoid(margin), and sigmoid(margin / temperature), tell how often the model is right."""
    scaled = margins / temperature
    return {
        "temperature": temperature,
        "ece_before": expected_calibration_error(margins, labels),
        "ece_after": expected_calibration_error(scaled, labels),
        "brier_before": brier_score(margins, labels),
        "brier_after": brier_score(scaled, labels),
        "loss_before": log_loss(margins, labels),
        "loss_after": log_loss(scaled, labels),
    }


def brier_score(margins: FloatArray, labels: FloatArray) -> float:
    """The mean squared distance of sigmoid(margin) from the label (Brier 1950)."""
    return float(np.square(labels - _sigmoid(margins)).mean())


def expected_calibration_error(margins: FloatArray, labels: FloatArray) -> float:
    """Mean distance of accuracy from confidence over ten bins of confidence, by their size (Naeini et al. 2015)."""
    bins = reliability(margins, labels)
    distances = np.abs(column(bins, "accuracy") - column(bins, "confidence"))
    return float(np.average(distances, weights=column(bins, "pairs")))


def reliability(margins: FloatArray, labels: FloatArray) -> pd.DataFrame:
    """Bins of confidence, sigmoid(|margin|), from 1/2 to 1: mean confidence and accuracy, and pairs, of each.

    A soft label counts as the share of people who agree with the model. The index is the bin's number; bins without
    pairs are left out.
    """
    confidence = _sigmoid(np.abs(margins))
    number = np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)
    agreement = labels * pair_accuracy(margins) + (1 - labels) * pair_accuracy(-margins)
    table = pd.DataFrame({"bin": number, "confidence": confidence, "accuracy": agreement})
    return table.groupby("bin").agg(
        confidence=("confidence", "mean"), accuracy=("accuracy", "mean"), pairs=("accuracy", "size")
    )


def by_source(pairs: pd.DataFrame, bootstrap_samples: int, seed: int) -> dict[str, dict[str, Any]]:
    """Accuracy of each source with its interval, of several small ones together; nothing of a single source."""
    sources = [str(source) for source in pairs["source"]]
    small = {source for source, count in Counter(sources).items() if count < MIN_SOURCE_PAIRS}
    if len(small) > 1:
        sources = [OTHER_SOURCES if source in small else source for source in sources]
    groups = {str(name): own for name, own in pairs.groupby(np.array(sources))}
    if len(groups) < 2:
        return {}
    return {
        name: accuracy_figures(
            pair_accuracy(compute_margins(own)), Bootstrap(own["prompt_id"].tolist(), bootstrap_samples, seed)
        )
        for name, own in groups.items()
    }


def accuracy_figures(correct: FloatArray, bootstrap: Bootstrap) -> dict[str, Any]:
    """Size and accuracy of pairs, with its interval."""
    return {**group_figures(correct), "accuracy_ci95": to_list(bootstrap.bounded_interval(correct, 0, 1))}


def _sigmoid(values: FloatArray) -> FloatArray:
    return 0.5 + 0.5 * np.tanh(values / 2)


def percent(share: float | None, *, signed: bool = False) -> str:
    """A share for people."""
    if share is None or math.isnan(share):
        return "–"
    return f"{100 * share:{'+' if signed else ''}.1f}%"
