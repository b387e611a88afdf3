"""What an evaluation says, for people: a summary, the results table."""

from collections.abc import Mapping, Sequence
from typing import Any

from reward_model.data.evaluation_sets import HELDOUT
from reward_model.evaluation.bootstrap import MIN_PROMPTS
from reward_model.evaluation.metrics import FITTED_BASELINES, percent

NO_INTERVAL = f"no interval from under {MIN_PROMPTS} prompts"

NAMES = {
    "longer_wins": "the longer wins",
    "shorter_wins": "the shorter wins",
    "tfidf": "TF-IDF and length",
    "frozen_features": "frozen features",
}

REFERENCE_HEAD = [
    "pairs",
    "other reward model",
    "n",
    "its accuracy (95% interval)",
    "our gain (95% interval)",
    "its log loss calibrated (uncalibrated)",
    "our gain calibrated (95% interval)",
]

VERDICTS = {
    "better": "better than “{}”",
    "worse": "worse than “{}”",
    "not_shown": "not shown to differ from “{}”",
    "too_few_prompts": "too few prompts to tell",
    "too_few_differences": "too few differences to tell",
}


def set_report(name: str, figures: Mapping[str, Any]) -> str:
    """A set's figures, with what speaks against them, a subject a line."""
    matched, shorter, calibration = figures["length_matched"], figures["shorter_preferred"], figures["calibration"]
    correlation = figures["length_correlation"]
    best = figures["best_baseline"]
    lines = [
        f"{name}: {figures['n']} pairs, {figures['prompts']} prompts",
        f"accuracy {_with_interval(figures['accuracy'], figures['accuracy_ci95'])}, {figures['ties']} ties, log loss "
        f"{figures['loss']:.3f}",
        "baselines: " + ", ".join(f"{label} {percent(figures['baselines'][rule])}" for rule, label in NAMES.items()),
        f"over {NAMES[best]}: {_with_interval(figures['gain_over_best_baseline'], figures['gain_ci95'], signed=True)}: "
        f"{verdict_in_words(figures['verdict'])}",
        _loss_line(figures["loss_gain"]),
        f"length: right on {_of(matched)} pairs of about equal length, on {_of(shorter)} in which the shorter is "
        f"preferred; correlation of reward and length {'none' if correlation is None else f'{correlation:.2f}'}",
        *_trait_lines(figures["traits"]),
        *_source_lines(figures["by_source"]),
        f"calibration error {calibration['ece_before']:.3f}, at the fitted temperature {calibration['ece_after']:.3f}; "
        f"Brier score {calibration['brier_before']:.3f}, {calibration['brier_after']:.3f}; log loss "
        f"{calibration['loss_before']:.3f}, {calibration['loss_after']:.3f}",
        *_judge_lines(figures.get("judges", {})),
        *_reference_lines(figures.get("reference_models", {})),
        *benchmark_lines(figures),
    ]
    return "\n  ".join(lines)


def verdict_in_words(verdict: Mapping[str, str]) -> str:
    """Whether the model is shown to be better than the best baseline, or another model."""
    return VERDICTS[verdict["outcome"]].format(NAMES.get(verdict["over"], verdict["over"]))


def heldout_first(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The sets of metrics/eval.json, the held-out pairs before the others."""
    return dict(sorted(figures.items(), key=lambda item: (item[0] != HELDOUT, item[0])))


def results_table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """A table in Markdown, a row a set; below it one of the reference models, if there are any."""
    head = ["pairs", "n", "accuracy (95% interval)", "log loss", *NAMES.values(), "gain over the best (95% interval)"]
    rows = [head, ["---"] * len(head)]
    for name, own in heldout_first(figures).items():
        gain = own["gain_over_best_baseline"]
        rows.append(
            [
                name,
                str(own["n"]),
                f"{percent(own['accuracy'])} ({_bounds(own['accuracy_ci95'])})",
                f"{own['loss']:.3f}",
                *(percent(own["baselines"][rule]) for rule in NAMES),
                f"{percent(gain, signed=True)} ({_bounds(own['gain_ci95'], signed=True)})",
            ]
        )
    tables = [rows]
    if references := reference_rows(figures):
        tables.append([REFERENCE_HEAD, ["---"] * len(REFERENCE_HEAD), *references])
    return "\n\n".join("\n".join(f"| {' | '.join(row)} |" for row in table) for table in tables)


def reference_rows(figures: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The reference models beside ours, a row a set and model, as `REFERENCE_HEAD` names the columns."""
    return [
        [
            name,
            model,
            str(own["n"]),
            f"{percent(own['accuracy'])} ({_bounds(own['accuracy_ci95'])})",
            f"{percent(own['accuracy_gain']['gain'], signed=True)} "
            f"({_bounds(own['accuracy_gain']['ci95'], signed=True)})",
            f"{own['loss']:.3f} ({own['loss_uncalibrated']:.3f})",
            f"{own['loss_gain']['gain']:+.3f} ({_loss_bounds(own['loss_gain']['ci95'])})",
        ]
        for name, of_set in heldout_first(figures).items()
        for model, own in of_set.get("reference_models", {}).items()
    ]


def _with_interval(value: float, interval: Sequence[float] | None, *, signed: bool = False) -> str:
    bounds = _bounds(interval, signed=signed)
    return f"{percent(value, signed=signed)} ({'95% interval ' if interval else ''}{bounds})"


def _bounds(interval: Sequence[float] | None, *, signed: bool = False) -> str:
    if interval is None:
        return NO_INTERVAL
    low, high = (percent(bound, signed=signed) for bound in interval)
    return f"{low} to {high}"


def _loss_line(gain: Mapping[str, Any]) -> str:
    bounds = f"{'95% interval ' if gain['ci95'] else ''}{_loss_bounds(gain['ci95'])}"
    losses = ", ".join(
        f"{label} {gain['baselines'][rule]:.3f}" for rule, label in NAMES.items() if rule in FITTED_BASELINES
    )
    return (
        f"log loss of {losses}; gain over the best of them {gain['gain']:+.3f} ({bounds}): "
        f"{verdict_in_words(gain['verdict'])}"
    )


def _loss_bounds(interval: Sequence[float] | None) -> str:
    return NO_INTERVAL if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"


def _of(group: Mapping[str, Any]) -> str:
    return f"{percent(group['accuracy'])} of {group['n']}" if group["n"] else "none of 0"


def _trait_lines(traits: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = [
        f"{trait} {percent(own['preferred_by_model'])} (labels {percent(own['preferred_by_labels'])}, {own['n']} pairs)"
        for trait, own in traits.items()
        if own["n"]
    ]
    return [f"where one response alone has them, the model prefers {', '.join(found)}"] if found else []


def _source_lines(by_source: Mapping[str, Mapping[str, Any]]) -> list[str]:
    shown = [f"{source} {_of(own)}" for source, own in by_source.items()]
    return [f"by source: right on {', '.join(shown)}"] if shown else []


def _judge_lines(judges: Mapping[str, Mapping[str, Any]]) -> list[str]:
    shown = [
        f"{name} {percent(own['accuracy'])} of {own['n']} ({_bounds(own['accuracy_ci95'])})"
        for name, own in judges.items()
    ]
    return [f"other judges agree with the sample's labels, on all of its pairs, {', '.join(shown)}"] if shown else []


def _reference_lines(references: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for name, own in references.items():
        accuracy, loss = own["accuracy_gain"], own["loss_gain"]
        gain = _with_interval(accuracy["gain"], accuracy["ci95"], signed=True)
        lines += [
            f"{name}: right on {_of(own)} ({_bounds(own['accuracy_ci95'])}); gain over it {gain}: "
            f"{verdict_in_words(accuracy['verdict'])}",
            f"{name}: log loss {own['loss']:.3f} at the temperature of {own['temperature']:.2f} fitted on validation "
            f"pairs ({own['loss_uncalibrated']:.3f} uncalibrated); gain over it, both calibrated, "
            f"{loss['gain']:+.3f} ({_loss_bounds(loss['ci95'])}): {verdict_in_words(loss['verdict'])}",
            *(f"{name}: {line}" for line in benchmark_lines(own)),
        ]
    return lines


def benchmark_lines(figures: Mapping[str, Any]) -> list[str]:
    """What the authors of a set's benchmark report; nothing for a set that is none."""
    lines = []
    if "reward_bench" in figures:
        sections = figures["reward_bench"]
        lines.append("RewardBench: " + ", ".join(f"{name} {percent(value)}" for name, value in sections.items()))
    if "reward_bench_2" in figures:
        subsets = figures["reward_bench_2"]
        lines.append("RewardBench 2: " + ", ".join(f"{name} {percent(value)}" for name, value in subsets.items()))
    if "rm_bench" in figures:
        levels = {key: figures["rm_bench"][key] for key in ("easy", "normal", "hard", "average")}
        lines.append("RM-Bench: " + ", ".join(f"{key} {percent(value)}" for key, value in levels.items()))
    if "best_of_n" in figures:
        best = figures["best_of_n"]
        lines.append(f"best of n: {percent(best['accuracy'])} of {best['n']} (by chance {percent(best['by_chance'])})")
    return lines
