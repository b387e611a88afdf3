"""The parts of the report: charts and tables of each set, of the training, of the data and of the params."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from typing import Any

from markupsafe import Markup

from reward_model.common.files import read_json
from reward_model.data.quality import quality_rows, quality_warnings
from reward_model.evaluation.metrics import percent
from reward_model.evaluation.plots import LONGER
from reward_model.evaluation.report import NAMES, REFERENCE_HEAD, heldout_first, reference_rows, verdict_in_words
from reward_model.reporting import charts
from reward_model.reporting.charts import JUDGE, REFERENCE, RULE, Dot, Spec
from reward_model.reporting.clean import MAX_NAME
from reward_model.reporting.summary import interval_in_words

Figures = Mapping[str, Any]

THE_MODEL = "the reward model"
MAX_SOURCES = 30  # of a set: charts and tables have the largest
CHANCE = log(2)  # nats: the log loss of even odds


@dataclass(frozen=True)
class Table:
    """Cells as text; the first of a row is its heading."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """A picture, what it shows in words, and its numbers."""

    title: str
    note: str
    svg: Markup
    table: Table


@dataclass(frozen=True)
class Section:
    """A heading with what is below it."""

    id: str
    title: str
    lead: str
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True)
class Metrics:
    """The files of metrics/ that the report shows."""

    eval: Figures
    train: Figures
    training_curve: Sequence[Figures]
    data: Figures
    tokens: Figures
    external_sets: Figures
    calibration: Figures
    reliability: Sequence[Figures]
    margins: Sequence[Figures]
    accuracy_by_length: Sequence[Figures]

    @classmethod
    def read(cls, folder: Path) -> "Metrics":
        """All of them.

        Raises:
            UserError: one is absent or damaged.
        """
        return cls(**{name: read_json(folder / f"{name}.json") for name in cls.__dataclass_fields__})


def set_sections(metrics: Metrics) -> list[Section]:
    """A section for each set of pairs, the held-out pairs first."""
    return [
        _set_section(f"set-{number}", name, own, metrics)
        for number, (name, own) in enumerate(heldout_first(metrics.eval).items())
    ]


def _set_section(section_id: str, name: str, own: Figures, metrics: Metrics) -> Section:
    loss = own["loss_gain"]
    lead = (
        f"{own['n']:,} pairs of {own['prompts']:,} prompts. The accuracy is {verdict_in_words(own['verdict'])}, "
        f"the log loss {verdict_in_words(loss['verdict'])}."
    )
    of_set = [_accuracy(own), _reliability(name, own, metrics), _margins(name, own, metrics), _by_length(name, metrics)]
    of_set += [_log_loss(own), _groups(own), *([_by_source(own["by_source"])] if own["by_source"] else [])]
    tables = [*_references(name, own), *_external_tables(own), *_traits(own["traits"])]
    return Section(section_id, name, lead, of_set, tables)


def make_chart(title: str, note: str, spec: Spec, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Chart:
    """A chart with the table of its numbers."""
    table = Table(title, head, list(rows))
    return Chart(title, note, charts.draw(spec, f"{title}. {note}"), table)


def accuracies(title: str, note: str, dots: Sequence[Dot]) -> Chart:
    """A dot plot of accuracies."""
    spec = charts.dot_plot(dots, "accuracy, 95% interval", domain=(0, 1), number="%", reference=0.5)
    rows = [
        (dot.label, "" if dot.pairs is None else f"{dot.pairs:,}", percent(dot.value), interval_in_words(dot.interval))
        for dot in dots
    ]
    return make_chart(title, note, spec, ["", "pairs", "accuracy", "95% interval"], rows)


def _accuracy(own: Figures) -> Chart:
    intervals = own.get("baselines_ci95", {})
    dots = [Dot(THE_MODEL, own["accuracy"], own["accuracy_ci95"], pairs=own["n"])]
    dots += [Dot(label, own["baselines"][rule], intervals.get(rule), RULE, own["n"]) for rule, label in NAMES.items()]
    judges = own.get("judges", {})
    dots += [Dot(name, judge["accuracy"], judge["accuracy_ci95"], JUDGE, judge["n"]) for name, judge in judges.items()]
    others = own.get("reference_models", {})
    dots += [
        Dot(name, other["accuracy"], other["accuracy_ci95"], REFERENCE, other["n"]) for name, other in others.items()
    ]
    gain, interval = own["gain_over_best_baseline"], interval_in_words(own["gain_ci95"], signed=True)
    note = f"Gain over the best rule: {percent(gain, signed=True)} (95% interval {interval}). Dashed: chance."
    if judges:
        note += " Diamonds: other models of the sample, over all of its pairs."
    if others:
        note += " Triangles: other reward models."
    return accuracies("Accuracy", note, dots)


def _log_loss(own: Figures) -> Chart:
    gain = own["loss_gain"]
    dots = [Dot(THE_MODEL, own["loss"])]
    dots += [Dot(NAMES[rule], loss, kind=RULE) for rule, loss in gain["baselines"].items()]
    top = max(0.8, *(dot.value * 1.05 for dot in dots))
    spec = charts.dot_plot(dots, "log loss in nats, lower is better", domain=(0, top), number=".1f", reference=CHANCE)
    bounds = "–" if gain["ci95"] is None else "{:+.3f} to {:+.3f}".format(*gain["ci95"])
    note = f"Gain over the best rule: {gain['gain']:+.3f} (95% interval {bounds}). Dashed: even odds, 0.693."
    return make_chart("Log loss", note, spec, ["", "log loss"], [(dot.label, f"{dot.value:.3f}") for dot in dots])


def _reliability(name: str, own: Figures, metrics: Metrics) -> Chart:
    bins = [dict(row) for row in metrics.reliability if row["set"] == name]
    calibration = own["calibration"]
    note = (
        f"How often the model is right when it says so; below, the pairs of each bin. Calibration error "
        f"{calibration['ece_after']:.3f}, Brier score {calibration['brier_after']:.3f}. Dashed: perfect."
    )
    rows = [(f"{row['confidence']:.1%}", percent(row["accuracy"]), f"{row['pairs']:,}") for row in bins]
    return make_chart("Reliability", note, charts.reliability_chart(bins), ["confidence", "accuracy", "pairs"], rows)


def _margins(name: str, own: Figures, metrics: Metrics) -> Chart:
    bins = [dict(row) for row in metrics.margins if row["set"] == name]
    noise = metrics.calibration["noise_margin"]
    note = (
        f"Left of zero: ranked against the label. Median {own['margin_quantiles']['p50']:.2f}. "
        f"Within noise up to {noise:.2f}: the calibration's pairs with such margins, taken together, are not shown to "
        "be ranked better than by chance."
    )
    rows = [(f"{row['margin']:.2f}", percent(row["share"])) for row in bins if row["share"]]
    return make_chart(
        "Margins", note, charts.margins_chart(bins), ["margin, middle of the bin", "share of pairs"], rows
    )


def _by_length(name: str, metrics: Metrics) -> Chart:
    bins, rule = ([dict(row) for row in metrics.accuracy_by_length if row["set"] == each] for each in (name, LONGER))
    note = "Right of 1 the chosen response is the longer one. Dashed: the longer wins."
    rows = [(f"{2 ** row['octaves']:.2f}", percent(row["accuracy"])) for row in bins]
    return make_chart(
        "Accuracy by length", note, charts.length_chart(bins, rule), ["chosen / rejected", "accuracy"], rows
    )


def _groups(own: Figures) -> Chart:
    groups = {"about equal length": own["length_matched"], "the shorter preferred": own["shorter_preferred"]}
    dots = [Dot("all pairs", own["accuracy"], own["accuracy_ci95"], pairs=own["n"])]
    dots += [Dot(label, group["accuracy"], pairs=group["n"]) for label, group in groups.items() if group["n"]]
    correlation = own["length_correlation"]
    note = "Where length tells nothing, or the wrong thing. Rank correlation of reward and length within pairs: "
    return accuracies("Length-matched", f"{note}{'none' if correlation is None else f'{correlation:.2f}'}.", dots)


def _by_source(by_source: Figures) -> Chart:
    largest = sorted(by_source.items(), key=lambda item: (-item[1]["n"], item[0]))[:MAX_SOURCES]
    dots = [Dot(source[:MAX_NAME], own["accuracy"], own["accuracy_ci95"], pairs=own["n"]) for source, own in largest]
    left_out = len(by_source) - len(largest)
    note = f"The {left_out:,} smaller sources are left out." if left_out else ""
    return accuracies("By source", note, dots)


def _traits(traits: Figures) -> list[Table]:
    rows = [
        (trait, f"{own['n']:,}", percent(own["preferred_by_labels"]), percent(own["preferred_by_model"]))
        for trait, own in traits.items()
        if own["n"]
    ]
    head = ["", "pairs", "labels prefer it", "model prefers it"]
    return [Table("Where one response alone has", head, rows)] if rows else []


def _references(name: str, own: Figures) -> list[Table]:
    rows = [row[1:] for row in reference_rows({name: own})]
    return [Table("Other reward models on the same pairs", ["", *REFERENCE_HEAD[2:]], rows)] if rows else []


def _external_tables(own: Figures) -> list[Table]:
    """What the authors of a benchmark report."""
    tables = []
    if "reward_bench" in own:
        rows = [(name, percent(value)) for name, value in own["reward_bench"].items()]
        tables.append(Table("RewardBench", ["section", "accuracy"], rows))
    if "reward_bench_2" in own:
        rows = [(name, percent(value)) for name, value in own["reward_bench_2"].items()]
        tables.append(Table("RewardBench 2", ["subset", "score"], rows))
    if "rm_bench" in own:
        rows = [(level, percent(own["rm_bench"][level])) for level in ("easy", "normal", "hard", "average")]
        tables.append(Table("RM-Bench", ["level", "accuracy"], rows))
    if "best_of_n" in own:
        best = own["best_of_n"]
        rows = [("the model", percent(best["accuracy"])), ("by chance", percent(best["by_chance"]))]
        tables.append(Table(f"Best of n, {best['n']:,} rows", ["", "the best is first"], rows))
    return tables


def training_section(metrics: Metrics) -> Section:
    """The curves, with the step that the kept weights are from."""
    train, curve = metrics.train, metrics.training_curve
    kept = next((point["pairs"] for point in curve if point["step"] == train["kept_step"]), None)
    lead = (
        f"{train['pairs']:,} pairs and {train['degenerate']:,} degenerate ones in {train['steps']:,} steps on "
        f"{train['device']}, {train['precision']}; {train['layers']} layers of the base. Kept: the weights of step "
        f"{train['kept_step']:,}."
    )
    notes = [f"{len(train['step_downs'])} times memory ran out."] if train["step_downs"] else []
    notes += [str(problem) for problem in train["device_problems"]]
    names = {"loss": "loss per pair", "accuracy": "accuracy"}
    drawn = [_training_chart(curve, figure, label, kept) for figure, label in names.items()]
    return Section("training", "Training", lead, drawn, notes=notes)


def _training_chart(curve: Sequence[Figures], figure: str, label: str, kept: int | None) -> Chart:
    points = [dict(point) for point in curve]
    rows = [
        (f"{point['pairs']:,}", f"{point[figure]:.3f}", _number(point.get(f"eval_{figure}")))
        for point in points
        if point.get(figure) is not None
    ]
    note = "On pairs when they are first trained on, and on validation pairs. Dashed: the kept weights."
    spec = charts.training_chart(points, figure, label, kept)
    return make_chart(label.capitalize(), note, spec, ["pairs seen", "training", "validation"], rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def data_section(metrics: Metrics) -> Section:
    """What was skipped, what was cut, and what the training pairs look like."""
    data, external = metrics.data, metrics.external_sets
    lead = f"{data['rows']:,} rows were read; {data['kept']:,} pairs were kept."
    skipped = [(reason, "prepare", f"{count:,}") for reason, count in data["skipped"].items()]
    skipped += [
        (reason, name, f"{count:,}")
        for name, own in external["sets"].items()
        for reason, count in own["skipped"].items()
    ]
    cuts = {name: own for name, own in metrics.tokens.items() if isinstance(own, dict)}
    cuts |= {name: {**own, "pairs": own["kept"]} for name, own in external["sets"].items()}
    cut_rows = [
        (name, f"{own['pairs']:,}", *(_cut(own, side) for side in ("prompt", "response"))) for name, own in cuts.items()
    ]
    tables = [
        Table("Rows skipped", ["reason", "where", "rows"], skipped),
        Table(
            f"Cut to {metrics.tokens['max_length']} tokens", ["set", "pairs", "prompts cut", "responses cut"], cut_rows
        ),
        Table("The training pairs", ["what", "share"], list(quality_rows(data["quality"]))),
    ]
    notes = [f"warning: {line}" for line in quality_warnings(data["quality"])]
    notes += [f"{name} is left out: {reason}" for name, reason in external["skipped"].items()]
    return Section("data", "Data", lead, tables=tables, notes=notes)


def _cut(own: Figures, side: str) -> str:
    count = own[f"{side}s_cut"]
    return f"{count:,} ({own[f'{side}_tokens_cut']:,} tokens)" if count else "0"


def params_section(params: Figures, defaults: Figures) -> Section:
    """The params that differ from the defaults."""
    ours, theirs = flatten(params), flatten(defaults)
    rows = [(key, str(value), str(theirs.get(key, "–"))) for key, value in ours.items() if value != theirs.get(key)]
    lead = "These keys of params.yaml differ from the defaults." if rows else "All params have their defaults."
    tables = [Table("Params", ["key", "value", "default"], rows)] if rows else []
    return Section("params", "Params", lead, tables=tables)


def flatten(values: Figures, before: str = "") -> dict[str, Any]:
    """Values by `section.key`."""
    flat = {}
    for key, value in values.items():
        flat |= flatten(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return flat
