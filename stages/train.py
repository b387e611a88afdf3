"""Train the reward model: models/base, data/tokens, data/probe → models/reward, metrics/train.json.

    python stages/train.py

metrics/training_curve.json has what the plots of the training show, while it runs too.
An interrupted training resumes from its last checkpoint, in models/.checkpoints, when it is started again unchanged.
"""

import platform
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import reward_model.common.environment  # noqa: F401

# isort: split
import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from reward_model.common.accuracy import pair_accuracy
from reward_model.common.errors import run
from reward_model.common.files import (
    ADAPTER_FOLDER,
    PROVENANCE_FILE,
    hash_file,
    hash_folder,
    new_folder,
    write_checksums,
    write_json,
)
from reward_model.common.tables import read_parquet, write_parquet
from reward_model.contract.encoder import Encoder
from reward_model.data.degenerate import DEGENERATE
from reward_model.data.tokens import TokenRow, read_training_rows
from reward_model.evaluation.calibration import UNSEEN_FILE
from reward_model.evaluation.fit_calibration import JUDGED, reliable_temperature
from reward_model.evaluation.margins import log_loss, of_one_kind, read_labels
from reward_model.evaluation.probe import ProbeWeights
from reward_model.modeling.batching import pairs_to_groups
from reward_model.modeling.devices import choose_device, fsdp_enabled, world_size
from reward_model.modeling.head import reward_head, scale_head
from reward_model.modeling.model import load_reward_model, save_reward_model
from reward_model.params import TrainParams, load_params
from reward_model.scoring.inference import prepare_for_scoring, score_sides
from reward_model.training.callbacks import say
from reward_model.training.checkpoints import FOLDER, Checkpoints, hash_loaded_code, training_key
from reward_model.training.distributed import is_main_process
from reward_model.training.meeting import DEVICE, joining_processes, part_processes
from reward_model.training.run import train
from reward_model.training.start import build_starting_model, kept_layers

BASE = Path("models/base")
TOKENS = Path("data/tokens")
PROBE = Path("data/probe/weights.safetensors")
CURVE = Path("metrics/training_curve.json")
SCORED_PROMPTS = 4  # at a time, when the temperature is fitted
PACKAGES = ("torch", "transformers", "trl", "accelerate", "peft", "tokenizers", "datasets", "safetensors")


def main() -> None:
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    with joining_processes() as shared:
        params = load_params().train
        rows = read_training_rows(TOKENS, params.degenerate_weight)
        pairs = [row for row in rows if row["weight"] > 0]
        validation = read_parquet(TOKENS / "validation.parquet")
        encoder = Encoder.load(TOKENS / "tokenizer")
        model = build_starting_model(BASE, encoder, params, ProbeWeights.load(PROBE))
        facts = training_facts(params, versions)
        shared |= facts | shared_facts(params)
    checkpoints = Checkpoints(FOLDER / training_key(facts))
    result = train(model, encoder, pairs, params, checkpoints, validation, CURVE)
    part_processes()
    if not is_main_process():
        checkpoints.remove_unused()
        return
    with new_folder(Path("models/reward")) as folder:
        rewards = score_copy(model, encoder, result.weights, params, folder, validation)
        judged = judged_pairs(validation, np.subtract(*rewards))
        unseen = judged_pairs([pairs[number] for number in result.unseen], result.unseen.values())
        unseen = unseen.loc[of_one_kind(read_labels(judged), read_labels(unseen))]
        temperature = choose_temperature(pd.concat([judged, unseen])) if params.temperature_scaling else None
        if temperature is not None:
            scale_head(model if result.weights is None else result.weights, 1 / temperature)
            unseen = unseen.assign(margin=unseen["margin"] / temperature)
        save_reward_model(model, encoder, folder, result.weights)
        write_parquet(folder / UNSEEN_FILE, unseen.to_dict("records"))
        if result.adapter is not None:
            result.adapter.save(folder / ADAPTER_FOLDER, reward_head(model).weight)
        write_json(folder / PROVENANCE_FILE, {"params": asdict(params), "versions": versions})
        write_checksums(folder, unlisted=[ADAPTER_FOLDER])
    found = {"temperature": temperature, "validation": validation_figures(judged, temperature or 1.0)}
    write_json(Path("metrics/train.json"), result.summary | found)
    write_json(CURVE, result.curve)
    checkpoints.remove()
    message = (
        "trained on {pairs} pairs + {degenerate} degenerate in {steps} steps: loss {loss:.3f}, accuracy {accuracy:.1%}"
    )
    print(message.format(**result.summary))


def judged_pairs(pairs: Sequence[TokenRow], margins: Iterable[float]) -> pd.DataFrame:
    """Prompt, label and margin of pairs, a row each."""
    rows = [(row["prompt_id"], row.get("preference"), margin) for row, margin in zip(pairs, margins, strict=True)]
    return pd.DataFrame(rows, columns=[*JUDGED]).astype({"preference": float, "margin": float})


def choose_temperature(pairs: pd.DataFrame) -> float | None:
    """The temperature at which `judged_pairs` are predicted best; None where they cannot tell it, which is said."""
    temperature = reliable_temperature(pairs["margin"].to_numpy(), read_labels(pairs), pairs["prompt_id"].tolist())
    if temperature is None:
        say("the pairs are too few, or too badly predicted, for a temperature: the rewards stay as they are")
    return temperature


def validation_figures(pairs: pd.DataFrame, temperature: float) -> dict[str, float]:
    """What validation pairs say of the rewards as they are saved: how many, accuracy and log loss."""
    margins = pairs["margin"].to_numpy()
    return {
        "pairs": len(pairs),
        "accuracy": float(pair_accuracy(margins).mean()),
        "loss": log_loss(margins / temperature, read_labels(pairs)),
    }


def score_copy(
    model: PreTrainedModel,
    encoder: Encoder,
    weights: dict[str, torch.Tensor] | None,
    params: TrainParams,
    space: Path,
    rows: Sequence[TokenRow],
) -> tuple[list[float], list[float]]:
    """The rewards that a copy of the trained model gives both sides of rows; scoring may round the copy's weights."""
    pad_token_id = encoder.contract.pad_token_id
    with tempfile.TemporaryDirectory(dir=space) as folder:
        save_reward_model(model, encoder, Path(folder), weights)
        write_checksums(Path(folder))
        trained, _ = load_reward_model(Path(folder))
        prepare_for_scoring(trained, pairs_to_groups(rows), pad_token_id, params.device, params.precision)
        return score_sides(trained, rows, pad_token_id, SCORED_PROMPTS, "validation")


def training_facts(params: TrainParams, versions: dict[str, str]) -> dict[str, Any]:
    """What decides the weights that a training ends with, by name."""
    others = ("device", "report_to", "save_steps", "temperature_scaling")
    decisive = {f"train.{name}": value for name, value in asdict(params).items() if name not in others}
    inputs = [TOKENS / f"{name}.parquet" for name in ("train", DEGENERATE, "validation")]
    return {
        **decisive,
        # The depth and not the probe: another device computes the features a little differently.
        "layers": kept_layers(BASE, params, ProbeWeights.load(PROBE)),
        "world_size": world_size(),
        "fsdp": fsdp_enabled(),
        **{path.as_posix(): hash_file(path) for path in inputs},
        BASE.as_posix(): hash_folder(BASE),
        "stages/train.py": hash_file(Path(__file__)),
        **versions,
        **hash_loaded_code(),
    }


def shared_facts(params: TrainParams) -> dict[str, Any]:
    """What must be the same in all processes besides, by name."""
    return {
        **{f"train.{name}": value for name, value in asdict(params).items()},
        PROBE.as_posix(): hash_file(PROBE),
        f"{TOKENS}/tokenizer": hash_folder(TOKENS / "tokenizer"),
        DEVICE: choose_device(params.device).type,
    }


if __name__ == "__main__":
    run(main)
