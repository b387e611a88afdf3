"""Print the results of the last evaluation (not a stage).

python stages/results.py                  the verdict, and a row a set
python stages/results.py --details        every figure, in words
python stages/results.py --markdown       as the table of metrics/README.md
python stages/results.py --svg FILE       as a picture: the accuracy of the model and of each rule
python stages/results.py --write-docs     put the table into metrics/README.md and the picture into metrics/accuracy.svg
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from reward_model.cli.terminal import make_console, make_table
from reward_model.common.errors import UserError, run
from reward_model.common.files import read_json, write_text
from reward_model.evaluation.accuracy_chart import accuracy_chart
from reward_model.evaluation.metrics import percent
from reward_model.evaluation.report import (
    benchmark_lines,
    heldout_first,
    results_table,
    set_report,
)
from reward_model.reporting.summary import find_report, interval_in_words, summary_rows, verdict_sentence

METRICS = Path("metrics")
BEGIN, END = "<!-- results -->", "<!-- /results -->"  # around the table in metrics/README.md
CALIBRATED = "These log losses are at fitted temperatures, of both models."
COLOURS = {"better": "green", "worse": "red"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--details", action="store_true", help="print every figure in words")
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the accuracies")
    parser.add_argument("--write-docs", action="store_true", help="refresh metrics/README.md and metrics/accuracy.svg")
    arguments = parser.parse_args()
    figures = read_json(METRICS / "eval.json")
    if arguments.write_docs:
        write_table(METRICS / "README.md", figures)
        draw(METRICS / "accuracy.svg", figures)
    elif arguments.svg is not None:
        draw(arguments.svg, figures)
    elif arguments.markdown:
        print(results_table(figures))
    elif arguments.details:
        print("\n".join(set_report(name, own) for name, own in heldout_first(figures).items()))
    else:
        print_summary(figures)


def print_summary(figures: Mapping[str, Any]) -> None:
    """The verdict, a table that fits 80 columns, and where the report is; in colour on a terminal."""
    numbers = ("pairs", "accuracy", "95% interval", "gain", "log loss")
    table = make_table("set", *numbers[:3], "best rule", *numbers[3:], numbers=numbers)
    table.collapse_padding = True  # or it would be wider than 80 columns
    for row in summary_rows(figures):
        gain = Text(row.gain, COLOURS.get(row.outcome, ""))
        accuracy = Text(row.accuracy, "bold")
        table.add_row(Text(row.name), row.pairs, accuracy, row.interval, row.rule, gain, row.loss)
    console = make_console()
    console.print(Text(verdict_sentence(figures), "bold"), "", table, sep="\n")
    if any(own.get("reference_models") for own in figures.values()):
        console.print("", reference_table(figures), "", CALIBRATED, sep="\n")
    benchmarks = [f"{name}: {line}" for name, own in heldout_first(figures).items() for line in benchmark_lines(own)]
    if benchmarks:
        console.print("", *benchmarks, sep="\n")
    report = find_report()
    if report is not None:
        console.print(f"\nThe charts, and pairs to look at: {report}")


def reference_table(figures: Mapping[str, Any]) -> Table:
    """The other reward models, and the gain of this one over each."""
    numbers = ("accuracy", "our gain", "95% interval", "log loss", "our gain")
    table = make_table("set", "other reward model", *numbers, numbers=numbers)
    table.collapse_padding = True  # or it would be wider than 80 columns
    for name, of_set in heldout_first(figures).items():
        for model, own in of_set.get("reference_models", {}).items():
            accuracy, loss = own["accuracy_gain"], own["loss_gain"]
            table.add_row(
                Text(name),
                Text(model),
                percent(own["accuracy"]),
                Text(percent(accuracy["gain"], signed=True), COLOURS.get(accuracy["verdict"]["outcome"], "")),
                interval_in_words(accuracy["ci95"], signed=True),
                f"{own['loss']:.3f}",
                Text(f"{loss['gain']:+.3f}", COLOURS.get(loss["verdict"]["outcome"], "")),
            )
    return table


def draw(target: Path, figures: Mapping[str, Any]) -> None:
    """Write the accuracies as SVG."""
    import vl_convert

    write_text(target, vl_convert.vegalite_to_svg(accuracy_chart(figures)))
    print(target)


def write_table(target: Path, figures: Mapping[str, Any]) -> None:
    """Put the results table between the two markers of a Markdown file.

    Raises:
        UserError: the file or a marker is missing.
    """
    text = target.read_text(encoding="utf-8") if target.exists() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{target} must have a line {BEGIN} and, below it, a line {END}")
    write_text(target, f"{before}{BEGIN}\n{results_table(figures)}\n{END}{after}")
    print(target)


if __name__ == "__main__":
    run(main)
