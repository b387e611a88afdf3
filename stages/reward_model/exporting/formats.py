"""The forms in which a trained model is exported."""

import shutil
import tempfile
from pathlib import Path

import reward_model.common.environment  # noqa: F401

# The environment comes before torch.
# isort: split
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from reward_model.common.files import read_json, write_json
from reward_model.contract.encoder import CONTRACT_FILE
from reward_model.exporting.onnx_export import export_onnx, quantize
from reward_model.modeling.model import load_reward_model
from reward_model.scoring.onnx_backend import ONNX_FILE


def link_or_copy(source: Path, target: Path) -> None:
    """Give `target` the content of `source` without storing it twice where the file system can."""
    try:
        target.hardlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)


def save_onnx(model: Path, folder: Path, *, int8: bool) -> None:
    """Write the trained model of one folder into another as ONNX, in float32 or with int8 weights."""
    loaded, _ = load_reward_model(model)
    if not int8:
        export_onnx(loaded, folder / ONNX_FILE)
        return
    with tempfile.TemporaryDirectory() as scratch:
        precise = Path(scratch) / ONNX_FILE
        export_onnx(loaded, precise)
        quantize(precise, folder / ONNX_FILE)


def save_in_bfloat16(folder: Path) -> None:
    """Replace the safetensors of a model's folder by ones in bfloat16, and say so in its config and contract."""
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).to(torch.bfloat16) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        path.unlink()  # it may be a link to the trained model's
        save_file(tensors, path, metadata)
    for name, key in (("config.json", "dtype"), (CONTRACT_FILE, "precision")):
        content = read_json(folder / name)
        (folder / name).unlink()
        write_json(folder / name, content | {key: "bfloat16"})
