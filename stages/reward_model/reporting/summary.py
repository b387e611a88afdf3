"""The results in one sentence, and in one row a set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward_model.data.evaluation_sets import HELDOUT
from reward_model.evaluation.metrics import percent
from reward_model.evaluation.report import NAMES, heldout_first

REPORT = Path("data/report.html")
WITHOUT_TEXTS = Path("metrics/report.html")
COMPARED = {
    "better": "better than",
    "worse": "worse than",
    "not_shown": "not shown to differ from",
    "too_few_differences": "too seldom different to be compared with",
}
TOO_FEW = "of too few prompts to compare it with the simple rules"


def find_report() -> Path | None:
    """The report, or the one without texts where that alone is there; None if neither is."""
    return next((path for path in (REPORT, WITHOUT_TEXTS) if path.exists()), None)


def verdict_sentence(figures: Mapping[str, Any]) -> str:
    """Whether the model is shown to be better than the simple rules on the held-out pairs.

    Args:
        figures: metrics/eval.json.
    """
    own = figures[HELDOUT]
    rule, loss = own["best_baseline"], own["loss_gain"]
    right = f"On held-out pairs the model is right on {percent(own['accuracy'])}"
    if own["verdict"]["outcome"] == "too_few_prompts":
        return f"{right} (log loss {own['loss']:.3f}), but these are {TOO_FEW}."
    return (
        f"{right}, {COMPARED[own['verdict']['outcome']]} "
        f"the best simple rule, “{NAMES[rule]}” ({percent(own['baselines'][rule])}); its log loss of {own['loss']:.3f} "
        f"is {COMPARED[loss['verdict']['outcome']]} that of “{NAMES[loss['best']]}” "
        f"({loss['baselines'][loss['best']]:.3f})."
    )


@dataclass(frozen=True)
class SummaryRow:
    """A set's main figures in words."""

    name: str
    pairs: str
    accuracy: str
    interval: str
    rule: str
    rule_accuracy: str
    gain: str
    gain_interval: str
    outcome: str
    loss: str


def summary_rows(figures: Mapping[str, Any]) -> list[SummaryRow]:
    """A row for each set, the held-out pairs first.

    Args:
        figures: metrics/eval.json.
    """
    return [
        SummaryRow(
            name=name,
            pairs=f"{own['n']:,}",
            accuracy=percent(own["accuracy"]),
            interval=interval_in_words(own["accuracy_ci95"]),
            rule=NAMES[own["best_baseline"]],
            rule_accuracy=percent(own["baselines"][own["best_baseline"]]),
            gain=percent(own["gain_over_best_baseline"], signed=True),
            gain_interval=interval_in_words(own["gain_ci95"], signed=True),
            outcome=own["verdict"]["outcome"],
            loss=f"{own['loss']:.3f}",
        )
        for name, own in heldout_first(figures).items()
    ]


def interval_in_words(interval: Sequence[float] | None, *, signed: bool = False) -> str:
    """The bounds of an interval of shares; a dash where there is none."""
    if interval is None:
        return "–"
    low, high = (percent(bound, signed=signed) for bound in interval)
    return f"{low.removesuffix('%')} to {high}"
