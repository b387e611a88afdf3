"""Models and data sets of the Hugging Face hub."""

import tempfile
from pathlib import Path

from reward_model.common.errors import UserError, first_line

# Config, tokenizer and weights in the model's folder itself; never code or pickles.
MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
BELOW = "*/*"


def download_model(name: str, revision: str, folder: Path | None = None, more: tuple[str, ...] = ()) -> Path:
    """Download the files of a model that `MODEL_FILES` names.

    Args:
        name: on the hub.
        revision: branch, tag or commit.
        folder: where they are put; None: into the hub's cache, from which they are taken another time.
        more: patterns of other files that are wanted.

    Returns:
        The folder that they are in.

    Raises:
        UserError: there is no such model or revision, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            name, revision=revision, allow_patterns=[*MODEL_FILES, *more], ignore_patterns=BELOW, local_dir=folder
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise UserError(f"cannot fetch {name} at {revision}: {first_line(error)}") from None
    return Path(found)


def download_dataset(name: str, split: str, revision: str, target: Path, config: str | None = None) -> None:
    """Write one split of a data set of the hub to `target`, as Parquet.

    Args:
        name: of the data set.
        split: of the data set.
        revision: a branch, tag or commit.
        target: the file.
        config: which of its configurations, if it has several.

    Raises:
        UserError: there is no such data set, split or revision, or the hub cannot be reached.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        with tempfile.TemporaryDirectory() as cache:
            load_dataset(name, config, split=split, revision=revision, cache_dir=cache).to_parquet(target)
    except (DatasetsError, ValueError, RuntimeError, OSError) as error:
        reason, text = first_line(error), str(error)
        if "available configs" in text:  # all of its lines, but for the Python to write
            reason = " ".join(text.partition("Example of usage")[0].split())
            reason += ": name it in data.config, or in evaluate.hub_sets as NAME:CONFIG:SPLIT"
        raise UserError(f"cannot fetch hub:{name} at {revision}: {reason}") from None
