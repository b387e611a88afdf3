"""Print the results of the last evaluation (not a stage).

python stages/results.py                  for people
python stages/results.py --markdown       as the table of README.md
"""

import argparse
from pathlib import Path

from reward_model.common.errors import run
from reward_model.common.files import read_json
from reward_model.evaluation.report import results_table, set_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="a table in Markdown")
    figures = read_json(Path("metrics/eval.json"))
    if parser.parse_args().markdown:
        print(results_table(figures))
    else:
        print("\n".join(set_report(name, own) for name, own in figures.items()))


if __name__ == "__main__":
    run(main)
