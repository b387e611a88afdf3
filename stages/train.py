"""Train the reward model: models/base, data/tokens → models/reward, metrics/train.json, metrics/training_curve.json.

python stages/train.py
"""

import platform
from importlib.metadata import version
from pathlib import Path

import reward_model.environment  # noqa: F401
from reward_model.encoding import Encoder
from reward_model.errors import run
from reward_model.files import VERSIONS_FILE, new_folder, write_checksums, write_json
from reward_model.model import build_reward_model, save_reward_model
from reward_model.params import load_params
from reward_model.tables import read_parquet
from reward_model.training import is_main_process, train

TOKENS = Path("data/tokens")
PACKAGES = ("torch", "transformers", "trl", "tokenizers", "datasets", "safetensors")


def main() -> None:
    params = load_params().train
    pairs = read_parquet(TOKENS / "train.parquet")
    encoder = Encoder.load(TOKENS / "tokenizer")
    model = build_reward_model(Path("models/base"), encoder, params.seed)
    result = train(model, encoder, pairs, params)
    if not is_main_process():
        return
    with new_folder(Path("models/reward")) as folder:
        save_reward_model(model, encoder, folder)
        write_json(folder / VERSIONS_FILE, {"python": platform.python_version(), **{n: version(n) for n in PACKAGES}})
        write_checksums(folder)
    write_json(Path("metrics/train.json"), result.summary)
    write_json(Path("metrics/training_curve.json"), result.curve)
    print(
        "trained on {pairs} pairs in {steps} steps: loss {loss:.3f}, accuracy {accuracy:.1%}".format(**result.summary)
    )


if __name__ == "__main__":
    run(main)
