"""Print the results of the last evaluation (not a stage).

python stages/results.py                  for people
python stages/results.py --markdown       as the table of metrics/README.md
python stages/results.py --svg FILE       as a picture: the accuracy of the model and of each rule
python stages/results.py --write-docs     put the table into metrics/README.md and the picture into metrics/accuracy.svg
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reward_model.common.errors import UserError, run
from reward_model.common.files import read_json, write_text
from reward_model.evaluation.accuracy_chart import accuracy_chart
from reward_model.evaluation.report import heldout_first, results_table, set_report

METRICS = Path("metrics")
BEGIN, END = "<!-- results -->", "<!-- /results -->"  # around the table in metrics/README.md


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    else:
        print("\n".join(set_report(name, own) for name, own in heldout_first(figures).items()))


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
