"""Check params.yaml before DVC runs: it must be valid, and its paths must be such as DVC can watch.

python stages/check_paths.py
"""

import glob
from pathlib import Path

from reward_model.common.errors import UserError, run
from reward_model.common.paths import expand_home, refuse_address
from reward_model.params import load_params


def main() -> None:
    params = load_params()
    check_path("base.path", params.base.path)
    check_path("data.path", params.data.path)
    check_path("evaluate.sets_path", params.evaluate.sets_path)


def check_path(key: str, text: str) -> None:
    """Raise a `UserError` that says what to write instead, unless there is a file or folder of exactly this name."""
    refuse_address(text, key)
    if Path(text).exists():
        return
    path = expand_home(text)
    if path != Path(text):
        raise UserError(f"{key}: DVC does not know ~, so write {path}")
    if not glob.has_magic(text):
        raise UserError(f"{key}: {text} not found")
    folder = path
    while glob.has_magic(str(folder)):
        folder = folder.parent
    sources = f" and data.sources: [{{path: '{text}'}}]" if key == "data.path" else ""
    raise UserError(f"{key}: DVC watches no patterns such as {text}: set {key}: {folder}{sources}")


if __name__ == "__main__":
    run(main)
