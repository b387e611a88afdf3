"""Which architectures can be a base: the table of stages/README.md.

    python tests/performance/architectures.py [--onnx] [NAME ...]

Of each a tiny random base is tokenized for, cut, trained for an epoch, saved, loaded and scored with; with --onnx
exported, too, which takes most of the time. Rewards must be within 0.0001 of those of plain transformers. Prints a line
of the table for each, or what went wrong, and one line of JSON: how many were tried, and which failed.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path[:0] = ["stages", "tests"]

from reward_model.common.errors import first_line  # noqa: E402
from tiny_bases import ARCHITECTURES, try_base  # noqa: E402

TOLERANCE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=ARCHITECTURES)
    parser.add_argument("--onnx", action="store_true")
    options = parser.parse_args()
    names = options.names
    columns = ["`model_type`", "attention", "layout on a CPU", "can be cut", *["ONNX"] * options.onnx]
    print("|", " | ".join(columns), "|\n|" + "---|" * len(columns), flush=True)
    failed = [name for name in names if not tried(name, onnx=options.onnx)]
    print(json.dumps({"tried": len(names), "failed": failed}))
    sys.exit(bool(failed))


def tried(name: str, *, onnx: bool) -> bool:
    """Print the architecture's line; whether all went well."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = try_base(name, Path(folder), onnx=onnx)
        except Exception as error:  # whatever it is, the others are tried
            print(f"{name}: {type(error).__name__}: {first_line(error)}", flush=True)
            return False
    told = ["yes" if found["cut"] else "no", *["no" if found["onnx"] is None else "yes"] * onnx]
    print("|", " | ".join([f"`{name}`", found["attention"], found["layout"], *told]), "|", flush=True)
    differences = [found["difference"], found["onnx"] or 0.0]
    if max(differences) > TOLERANCE:
        print(f"{name}: rewards differ from transformers' by {max(differences):.1g}")
    return max(differences) <= TOLERANCE


if __name__ == "__main__":
    main()
