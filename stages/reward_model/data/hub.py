"""Models and data sets of the Hugging Face hub."""

import tempfile
from pathlib import Path

from reward_model.common.errors import UserError, first_line

MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]  # never code or pickles


def download_model(name: str, revision: str) -> Path:
    """Download config, tokenizer and safetensors of a model into the hub's cache; gives the folder.

    Raises:
        UserError: there is no such model or revision, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=MODEL_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise UserError(f"cannot fetch {name} at {revision}: {first_line(error)}") from None


def download_dataset(name: str, split: str, revision: str, target: Path) -> None:
    """Write one split of a data set of the hub to `target`, as Parquet.

    Raises:
        UserError: there is no such data set, split or revision, or the hub cannot be reached.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        with tempfile.TemporaryDirectory() as cache:
            load_dataset(name, split=split, revision=revision, cache_dir=cache).to_parquet(target)
    except (DatasetsError, ValueError, RuntimeError, OSError) as error:
        reason = first_line(error)
        raise UserError(f"cannot fetch hub:{name} at {revision}: {reason}") from None
