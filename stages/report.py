"""Make the report, a page to look at: metrics, data/evaluation, texts → data/report.html, metrics/report.html.

    python stages/report.py                     a stage: makes both
    python stages/report.py --open              shows the report in the browser (not a stage)
    python stages/report.py --compare REV ...   commits, branches or experiments beside the workspace:
                                                data/comparison.html (not a stage)

metrics/report.html has no text of a pair.
"""

import argparse
import webbrowser
from dataclasses import asdict
from pathlib import Path

from reward_model.common.errors import run
from reward_model.common.files import missing_input, write_text
from reward_model.data.evaluation_sets import EvaluationSet, evaluation_sets
from reward_model.evaluation.worst_pairs import read_worst_pairs
from reward_model.params import load_params
from reward_model.reporting.comparison import find_changes, read_runs
from reward_model.reporting.explanations import Explanations, read_explanations
from reward_model.reporting.page import render_comparison, render_page
from reward_model.reporting.pair_texts import PairView, view_pair
from reward_model.reporting.sections import Metrics
from reward_model.reporting.summary import REPORT, WITHOUT_TEXTS, find_report

COMPARISON = Path("data/comparison.html")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--open", action="store_true", help="show the report in the browser")
    parser.add_argument("--compare", nargs="+", metavar="REV", help="show runs side by side: commits or experiments")
    arguments = parser.parse_args()
    if arguments.compare:
        runs = read_runs(arguments.compare)
        write_text(COMPARISON, render_comparison(runs, find_changes(runs)))
        print(COMPARISON)
    elif arguments.open:
        open_report()
    else:
        make_report()


def make_report() -> None:
    """Write the report, and the one without texts."""
    params = asdict(load_params())
    metrics = Metrics.read(Path("metrics"))
    explanations = read_explanations()
    views = [view_set(each, explanations) for each in evaluation_sets()]
    write_text(REPORT, render_page(metrics, params, views))
    write_text(WITHOUT_TEXTS, render_page(metrics, params, None))
    print(f"{REPORT}; without texts: {WITHOUT_TEXTS}")


def view_set(each: EvaluationSet, explanations: Explanations) -> list[PairView]:
    """The pairs of a set that the report shows."""
    rows, pairs = read_worst_pairs(each)
    return [
        view_pair(each.name, row, pair, explanations.get((each.name, pair.id)))
        for row, pair in zip(rows, pairs, strict=True)
    ]


def open_report() -> None:
    """Show the report in the browser, in a fresh clone the one of the committed run, and say where it is.

    Raises:
        UserError: there is none.
    """
    path = find_report()
    if path is None:
        raise missing_input(REPORT)
    webbrowser.open(path.resolve().as_uri())
    print(
        path if path == REPORT else f"{path}, of the committed run (`make repro` makes {REPORT}, with texts of pairs)"
    )


if __name__ == "__main__":
    run(main)
