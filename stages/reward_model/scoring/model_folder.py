"""Where the model to score with is, and which backend suits it."""

from pathlib import Path

from reward_model.common.errors import UserError
from reward_model.common.files import CHECKSUMS_FILE, hash_file, hash_model_files
from reward_model.contract.encoder import CONTRACT_FILE
from reward_model.data.hub import download_model

HUB = "hub:"
EXPORTED_FILES = (CHECKSUMS_FILE, "*.onnx", "*.onnx.data")  # of an export of this project, beside a model's usual ones
ADAPTER_FILE = "adapter_config.json"
TRAIN = "run `make repro` in the project's folder, which trains one and exports it into models/export"
INT8_PRODUCT = b"MatMulNBits"  # the operator in which `export.onnx: int8` computes


def find_model(name: str) -> Path:
    """The folder of a model.

    Args:
        name: a folder, or hub:NAME or hub:NAME@REVISION, which is downloaded into the cache of the Hugging Face hub.

    Raises:
        UserError: there is no model, or it cannot be fetched.
    """
    if name.startswith(HUB):
        import huggingface_hub  # noqa: F401  # before the next, which turns off its progress bars

        from reward_model.common.environment import hub_reachable

        of_hub, _, revision = name.removeprefix(HUB).partition("@")
        with hub_reachable():
            folder = download_model(of_hub, revision or "main", more=EXPORTED_FILES)
    else:
        folder = Path(name)
    if (folder / "config.json").exists():
        return folder
    if (folder / ADAPTER_FILE).exists():
        raise UserError(f"{name} is an adapter without its base: merge the two, and score with what comes out")
    if within := sorted(path.parent for path in folder.glob(f"*/{CONTRACT_FILE}")):
        raise UserError(f"no trained model in {name}: did you mean {' or '.join(map(str, within))}?")
    if folder.is_dir():
        raise UserError(f"no trained model in {name}: {TRAIN}")
    raise UserError(f"no trained model in {name}, which is no folder in {Path.cwd()}: {TRAIN}; a hub's is hub:NAME")


def is_made_here(folder: Path) -> bool:
    """Whether a file is there that every reward model made here has."""
    return (folder / CONTRACT_FILE).exists() or (folder / CHECKSUMS_FILE).exists()


def model_digest(folder: Path) -> str:
    """One SHA-256 for all files that rewards depend on; of a model made here it is that of its list of checksums."""
    return hash_file(folder / CHECKSUMS_FILE) if is_made_here(folder) else hash_model_files(folder)


def has_exact_onnx(folder: Path) -> bool:
    """Whether the model was exported here as ONNX, in fp32: the rewards of int8 are close to its own, not equal."""
    graph = folder / "model.onnx"
    return (folder / CONTRACT_FILE).exists() and graph.exists() and INT8_PRODUCT not in graph.read_bytes()
