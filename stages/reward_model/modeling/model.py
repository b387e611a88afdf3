"""The reward model, a sequence classifier with one label: built, loaded, saved."""

import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel, set_seed

from reward_model.common.errors import UserError, first_line
from reward_model.common.files import check_checksums, missing_input, read_json
from reward_model.contract.derived import derive_encoder
from reward_model.contract.encoder import Encoder
from reward_model.modeling.depth import cut_config
from reward_model.modeling.head import HEAD, has_linear_head, start_head
from reward_model.modeling.quiet import quiet_transformers


def build_reward_model(base: Path, encoder: Encoder, seed: int, layers: int | None = None) -> PreTrainedModel:
    """A float32 sequence classifier on the weights of `base`; its reward head is that of `base`, or else zero.

    A random head pulls the features in a random direction before it has learned which of them tell the pairs apart
    (Kumar et al. 2022, arXiv:2202.10054); from zero it learns that first.

    Args:
        base: folder of a causal language model, or of a reward model.
        encoder: of the contract.
        seed: of what the base lacks.
        layers: how many of the base's layers to keep, the first ones; None: all.

    Raises:
        UserError: `base` is no such model that transformers can read, or has fewer layers.
    """
    set_seed(seed)
    model, missing, _ = _from_pretrained(base, layers)
    if lacking := missing - {f"{HEAD}.weight"}:
        raise UserError(f"{base} lacks weights of its architecture: {_some(lacking)}")
    if missing:
        start_head(model)
    model.config.problem_type = "regression"  # so that transformers' pipeline gives the reward, not its sigmoid
    model.config.pad_token_id = encoder.contract.pad_token_id
    model.config.eos_token_id = encoder.contract.end_token_id
    tokens = encoder.tokenizer.get_vocab_size(with_added_tokens=True)
    if tokens > model.config.get_text_config().vocab_size:
        model.resize_token_embeddings(tokens)
    return model


def load_reward_model(folder: Path) -> tuple[PreTrainedModel, Encoder]:
    """Load a trained model in float32, ready to score, with its encoder.

    Raises:
        UserError: no trained model is there, or its files are not those that were saved.
    """
    if not (folder / "config.json").exists():
        raise UserError(f"no trained model in {folder}: run `make repro`, which trains one")
    check_checksums(folder, unread=(".onnx", ".data"))
    encoder = Encoder.load(folder)
    saved = read_json(folder / "config.json").get("dtype")
    if saved != encoder.contract.precision:
        raise UserError(f"{folder}: the weights are {saved}, the scoring contract says {encoder.contract.precision}")
    model, missing, _ = _from_pretrained(folder)
    if missing:
        raise UserError(f"{folder} is not a trained reward model, it lacks {_some(missing)}: run `dvc repro`")
    return model.eval(), encoder


def load_reward_model_made_elsewhere(folder: Path) -> tuple[PreTrainedModel, Encoder]:
    """Load any sequence classifier with one label in float32, ready to score, with the encoder that its files imply.

    Raises:
        UserError: as `derive_encoder`, the weights cannot be loaded, or are not finite, or the head is no linear layer
            on the last token.
    """
    encoder = derive_encoder(folder)
    model, missing, unexpected = _from_pretrained(folder)
    if not has_linear_head(model):
        raise UserError(f"{folder}: the head of {type(model).__name__} is no linear layer on the last token's state")
    if missing:
        raise UserError(f"{folder} lacks weights of its architecture: {_some(missing)}")
    if of_head := {name for name in unexpected if name.startswith(HEAD)}:
        raise UserError(f"{folder} has weights that the head of {type(model).__name__} has not: {_some(of_head)}")
    if infinite := {name for name, weight in model.named_parameters() if not weight.isfinite().all()}:
        raise UserError(f"{folder} has weights that are not finite: {_some(infinite)}")
    return model.eval(), encoder


def save_reward_model(
    model: PreTrainedModel, encoder: Encoder, folder: Path, weights: dict[str, torch.Tensor] | None = None
) -> None:
    """Write safetensors, config, tokenizer and scoring contract into `folder`; `weights`, if the model lacks them.

    Raises:
        UserError: a weight is not finite.
    """
    if not all(tensor.isfinite().all() for tensor in (weights or model.state_dict()).values()):
        raise UserError(
            "the weights are not finite after the last step: lower train.learning_rate, or set train.precision: fp32"
        )
    # The folder the base came from says nothing to a reader of the config.
    model.config._name_or_path = ""
    model.save_pretrained(folder, state_dict=weights)
    for path in encoder.folder.iterdir():
        shutil.copyfile(path, folder / path.name)


def _from_pretrained(folder: Path, layers: int | None = None) -> tuple[PreTrainedModel, set[str], set[str]]:
    """The model, cut to its first `layers` layers, and names of weights.

    First those that its files lack, which are random; then those in its files that it has no place for.

    Cut by its config, so that what is built is what every other loader builds from the saved model.
    """
    if not (folder / "config.json").exists():  # transformers would look for it on the hub, and tell of that
        raise missing_input(folder / "config.json")
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, num_labels=1, local_files_only=True, trust_remote_code=False)
            if layers is not None:
                cut_config(config, layers)
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                attn_implementation=None,  # sdpa, or eager for the architectures that have no other
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
        return model, set(loading["missing_keys"]), set(loading["unexpected_keys"])
    except Exception as error:  # of whatever type: quantized weights raise others than damaged ones do
        raise UserError(f"{folder} is not a model that can be loaded: {first_line(error)}") from None


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
