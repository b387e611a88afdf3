"""Draw the plots of dvc.yaml as pictures, without a network or a browser (not a stage): metrics → dvc_plots/*.svg.

python stages/draw_plots.py
"""

import subprocess
import sys
from pathlib import Path

import vl_convert
import yaml

from reward_model.common.errors import UserError, run
from reward_model.common.files import write_text

FOLDER = Path("dvc_plots")


def main() -> None:
    for plot in yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["plots"]:
        [name] = plot
        path = FOLDER / f"{name.replace(' ', '_')}.svg"
        write_text(path, vl_convert.vegalite_to_svg(specification(name)))
        print(path)


def specification(name: str) -> str:
    """The plot as DVC draws it, in Vega-Lite's JSON.

    Raises:
        UserError: DVC cannot make it.
    """
    command = [sys.executable, "-m", "dvc", "plots", "show", name, "--show-vega"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode or '"data"' not in result.stdout:
        raise UserError(f"no plot {name}: its data is missing; run `dvc repro`, which makes it")
    return result.stdout


if __name__ == "__main__":
    run(main)
