"""Put together what a consumer needs: models/reward, metrics → models/export, metrics/export.json.

    python stages/export.py
    python stages/export.py --push-to-hub OWNER/NAME      upload models/export (private, unless --public is given)

The folder holds safetensors, config, tokenizer with its chat template, the scoring contract, the calibration,
checksums, metadata.json, a model card (README.md), and by `export.onnx` ONNX files, by `export.adapter` the adapter.
Each of the models, and the adapter on its base, is loaded again in a fresh process; if its rewards are not those of the
trained model, nothing is exported.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from reward_model.common.errors import UserError, run
from reward_model.common.files import (
    ADAPTER_FOLDER,
    CHECKSUMS_FILE,
    PROVENANCE_FILE,
    missing_input,
    new_folder,
    write_checksums,
    write_json,
    write_text,
)
from reward_model.evaluation.calibration import CALIBRATION_FILE, UNSEEN_FILE
from reward_model.exporting.metadata import METADATA_FILE, gather_metadata
from reward_model.exporting.model_card import write_card
from reward_model.params import ExportParams, Params, load_params

BASE = Path("models/base")
REWARD = Path("models/reward")
EXPORT = Path("models/export")
METRICS = Path("metrics")
HELDOUT_PAIRS = Path("data/pairs/heldout.jsonl")
CARD_FILE = "README.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--push-to-hub", metavar="OWNER/NAME", help="upload models/export instead of making it")
    parser.add_argument("--public", action="store_true", help="push to a public repository; a new one becomes public")
    arguments = parser.parse_args()
    if arguments.push_to_hub:
        push(arguments.push_to_hub, private=not arguments.public)
    else:
        export(load_params())


def export(params: Params) -> None:
    """Make models/export, and check it."""
    metadata = gather_metadata(params.base, params.export)
    if not list(REWARD.glob("*.safetensors")):
        raise missing_input(REWARD)
    with new_folder(EXPORT) as folder:
        place_weights(folder, params.export)
        write_json(folder / CALIBRATION_FILE, metadata["calibration"])
        write_json(folder / METADATA_FILE, metadata)
        write_checksums(folder, unlisted=[ADAPTER_FOLDER])
        checks = check_artefacts(folder, params.export)
        write_text(folder / CARD_FILE, write_card(metadata, checks))
    write_json(METRICS / "export.json", checks)
    for name, check in checks.items():
        print(
            f"{name}: {check['bytes'] / 1e6:.0f} MB; beside the trained model, rewards differ by at most "
            f"{check['max_abs_diff']:.1g}, and {check['preference_agreement']:.1%} of the preferences are the same"
        )


def place_weights(folder: Path, params: ExportParams) -> None:
    """Put the model into `folder` in every form that is wanted."""
    from reward_model.exporting.adapter import place_adapter
    from reward_model.exporting.formats import link_or_copy, save_in_bfloat16, save_onnx

    for path in sorted(REWARD.iterdir()):
        if path.is_file() and path.name not in (PROVENANCE_FILE, CHECKSUMS_FILE, UNSEEN_FILE):
            link_or_copy(path, folder / path.name)
    if params.adapter:
        place_adapter(REWARD, BASE, folder)
    if params.onnx != "none":
        save_onnx(REWARD, folder, int8=params.onnx == "int8")
    if params.dtype == "bf16":
        save_in_bfloat16(folder)


def check_artefacts(folder: Path, params: ExportParams) -> dict[str, dict[str, float]]:
    """Score held-out pairs with every artefact, and with the trained model.

    Raises:
        UserError: an artefact is too far off.
    """
    from reward_model.exporting.check import compare, require, score_in_new_process

    expected = score_in_new_process(REWARD, HELDOUT_PAIRS, "torch")
    artefacts = {"safetensors": ("torch", "*.safetensors", params.dtype == "fp32")}
    if params.onnx != "none":
        artefacts["onnx"] = ("onnx", "*.onnx*", params.onnx == "fp32")
    if params.adapter:
        artefacts["adapter"] = ("adapter", f"{ADAPTER_FOLDER}/*.safetensors", True)
    checks = {}
    for name, (backend, files, exact) in artefacts.items():
        size = sum(path.stat().st_size for path in folder.glob(files))
        base = BASE if backend == "adapter" else None
        check = compare(score_in_new_process(folder, HELDOUT_PAIRS, backend, base), expected, size)
        require(name, check, exact=exact)
        checks[name] = asdict(check)
    return checks


def push(name: str, *, private: bool) -> None:
    """Upload models/export as it is."""
    from reward_model.exporting.hub import push_to_hub

    if not (EXPORT / CARD_FILE).exists():
        raise UserError(f"there is nothing in {EXPORT} to push: run `dvc repro`, which makes it")
    print(f"pushed to {push_to_hub(EXPORT, name, private=private)}")


if __name__ == "__main__":
    run(main)
