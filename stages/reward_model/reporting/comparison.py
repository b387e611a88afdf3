"""Runs side by side: the workspace, and commits, branches or experiments as DVC has them."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from reward_model.common.accuracy import pair_accuracy
from reward_model.common.errors import UserError, first_line
from reward_model.common.files import missing_input, reading
from reward_model.data.evaluation_sets import HELDOUT, evaluation_sets
from reward_model.evaluation.bootstrap import Bootstrap
from reward_model.evaluation.margins import compute_margins, log_losses, read_labels
from reward_model.evaluation.metrics import percent
from reward_model.evaluation.report import heldout_first
from reward_model.reporting import charts
from reward_model.reporting.changed_pairs import ChangedPairs, changed_rows, view_changed_pairs
from reward_model.reporting.charts import RUNS, Dot
from reward_model.reporting.sections import CHANCE, Chart, Section, Table, accuracies, flatten, make_chart
from reward_model.reporting.summary import interval_in_words

WORKSPACE = "workspace"
SAMPLES, SEED = 2000, 0  # of the bootstrap

Read = Callable[[str], Any]  # the bytes of a file


@dataclass(frozen=True)
class Run:
    """A run's figures; `scored` are its pairs by set, of the sets whose pairs DVC has."""

    name: str
    figures: Mapping[str, Any]
    curve: Sequence[Mapping[str, Any]]
    params: Mapping[str, Any]
    scored: Mapping[str, pd.DataFrame]


def read_runs(revisions: Sequence[str]) -> list[Run]:
    """The workspace's run, then those of the revisions.

    Args:
        revisions: commits, branches, tags or experiments.

    Raises:
        UserError: one is unknown or has no results, or there are too many.
    """
    if len(revisions) >= len(RUNS):
        raise UserError(f"at most {len(RUNS) - 1} runs can be compared with the workspace, not {len(revisions)}")
    return [_read_run(WORKSPACE, _read_file), *map(_read_revision, revisions)]


def _read_file(name: str) -> bytes:
    if not Path(name).exists():
        raise missing_input(Path(name))
    with reading(name):
        return Path(name).read_bytes()


def _read_revision(revision: str) -> Run:
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

    try:
        return _read_run(revision, DVCFileSystem(rev=revision).read_bytes)
    except (DvcException, OSError) as error:
        raise UserError(f"the results of {revision} cannot be read: {first_line(error)}") from None


def _read_run(name: str, read: Read) -> Run:
    figures = json.loads(read("metrics/eval.json"))
    curve = json.loads(read("metrics/training_curve.json"))
    params = flatten(yaml.safe_load(read("params.yaml")))
    scored = {each: pairs for each in figures if (pairs := _read_scored(each, read)) is not None}
    return Run(name, figures, curve, params, scored)


def _read_scored(name: str, read: Read) -> pd.DataFrame | None:
    """A set's pairs with their rewards; None where the run did not keep them, or DVC's cache has not got them."""
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError

    try:
        return pd.read_parquet(io.BytesIO(read(f"data/evaluation/{name}.parquet")))
    except (DvcException, DataIndexDirError, OSError, UserError):
        return None


def compare(runs: Sequence[Run]) -> tuple[str, list[Section]]:
    """A sentence, and the sections of the page."""
    losses = {run.name: run.figures[HELDOUT]["loss"] for run in runs if HELDOUT in run.figures}
    best = min(losses, key=losses.__getitem__)
    sentence = f"Of {len(runs)} runs, {best} has the lowest log loss on held-out pairs: {losses[best]:.3f}."
    names = heldout_first({name: None for run in runs for name in run.figures})
    of_sets = [_set_section(f"set-{number}", name, runs) for number, name in enumerate(names)]
    return sentence, [*of_sets, _training_section(runs), _params_section(runs)]


def _set_section(section_id: str, name: str, runs: Sequence[Run]) -> Section:
    own = {run.name: run.figures[name] for run in runs if name in run.figures}
    dots = [Dot(run, figures["accuracy"], figures["accuracy_ci95"], pairs=figures["n"]) for run, figures in own.items()]
    of_losses = [Dot(run, figures["loss"]) for run, figures in own.items()]
    top = max(0.8, *(dot.value * 1.05 for dot in of_losses))
    spec = charts.dot_plot(of_losses, "log loss in nats", domain=(0, top), number=".1f", reference=CHANCE)
    rows = [(dot.label, f"{dot.value:.3f}") for dot in of_losses]
    drawn = [
        accuracies("Accuracy", "Dashed: chance.", dots),
        make_chart("Log loss", "Lower is better. Dashed: even odds, 0.693.", spec, ["", "log loss"], rows),
    ]
    first, *others = runs
    same = [run for run in others if _same_pairs(name, first, run)]
    gains = [_gains(run, first.scored[name], run.scored[name]) for run in same]
    head = ["run", "accuracy (95% interval)", "log loss (95% interval)", "right here alone", "right there alone"]
    tables = [Table(f"Gain over the {first.name}, on the same pairs", head, gains)] if gains else []
    lead = "The intervals of a gain are paired: they resample the prompts that both runs have ranked." if gains else ""
    compared = {run.name for run in same}
    evaluated = [run for run in others if run.name in own and run.name not in compared]
    unknown = [_why_unknown(name, first, run) for run in evaluated]
    return Section(section_id, name, lead, drawn, tables, list(dict.fromkeys(unknown)))


def find_changes(runs: Sequence[Run]) -> ChangedPairs:
    """The pairs whose verdict changed between the first run and another, of the sets that both have scored."""
    first, *others = runs
    count, views = 0, []
    for each in evaluation_sets():
        same = [run for run in others if _same_pairs(each.name, first, run)]
        changed = {run.name: changed_rows(first.scored[each.name], run.scored[each.name]) for run in same}
        count += sum(map(len, changed.values()))
        views.append(view_changed_pairs(each.name, changed, each.pairs))
    return ChangedPairs(count, views)


def _why_unknown(name: str, first: Run, other: Run) -> str:
    """Why it is not known which verdicts of a set changed."""
    missing = [run for run in (first, other) if name not in run.scored]
    if missing:
        place = "" if missing[0].name == WORKSPACE else " in DVC's cache"
        return f"Which verdicts changed is not known: {missing[0].name} has no data/evaluation/{name}.parquet{place}."
    return f"The verdicts are not compared: {other.name} was evaluated on other pairs."


def _same_pairs(name: str, first: Run, other: Run) -> bool:
    ids = [list(run.scored[name]["id"]) for run in (first, other) if name in run.scored]
    return len(ids) == 2 and ids[0] == ids[1]


def _gains(run: Run, first: pd.DataFrame, other: pd.DataFrame) -> tuple[str, ...]:
    """A row of the table of gains."""
    margins = [compute_margins(pairs) for pairs in (first, other)]
    before, after = map(pair_accuracy, margins)
    labels = read_labels(first)
    bootstrap = Bootstrap(first["prompt_id"].tolist(), SAMPLES, SEED)
    gain, saved = after - before, log_losses(margins[0], labels) - log_losses(margins[1], labels)
    bounds = bootstrap.interval(saved)
    in_words = "–" if bounds is None else "{:+.3f} to {:+.3f}".format(*bounds)
    return (
        run.name,
        f"{percent(float(gain.mean()), signed=True)} ({interval_in_words(bootstrap.interval(gain), signed=True)})",
        f"{saved.mean():+.3f} ({in_words})",
        f"{int((gain > 0).sum()):,}",
        f"{int((gain < 0).sum()):,}",
    )


def _training_section(runs: Sequence[Run]) -> Section:
    figures = {"eval_loss": "validation loss", "loss": "training loss", "eval_accuracy": "validation accuracy"}
    return Section("training", "Training", "", [_curves(runs, figure, title) for figure, title in figures.items()])


def _curves(runs: Sequence[Run], figure: str, title: str) -> Chart:
    points = [
        {"run": run.name, "pairs": point["pairs"], "value": point[figure]}
        for run in runs
        for point in run.curve
        if point.get(figure) is not None
    ]
    rows = [(point["run"], f"{point['pairs']:,}", f"{point['value']:.3f}") for point in points]
    spec = charts.runs_chart(points, [run.name for run in runs], title)
    return make_chart(title.capitalize(), "", spec, ["run", "pairs seen", title], rows)


def _params_section(runs: Sequence[Run]) -> Section:
    keys = dict.fromkeys(key for run in runs for key in run.params)
    values = {key: [str(run.params.get(key, "–")) for run in runs] for key in keys}
    rows = [(key, *own) for key, own in values.items() if len(set(own)) > 1]
    lead = "These keys of params.yaml differ." if rows else "The runs have the same params."
    tables = [Table("Params", ["key", *(run.name for run in runs)], rows)] if rows else []
    return Section("params", "Params", lead, tables=tables)
