"""Which models can be a base: those of which transformers itself has a sequence classifier.

Only then does every loader, a server for example, take the exported model without code from elsewhere.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig
from transformers.models.auto import modeling_auto
from transformers.utils import logging

from reward_model.common.errors import UserError, first_line

CLASSIFIERS = modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES


def require_classifier(base: Path) -> None:
    """Check that a reward model can be made of a base.

    Raises:
        UserError: transformers does not know the architecture, has no classifier for it with a linear head, or cannot
            make one of this config.
    """
    config = read_model_config(base, num_labels=1)
    try:
        usable = has_linear_head(config)
    except Exception as error:  # of sizes that do not fit together, of whatever type
        raise UserError(f"{base}: no model can be made of its config: {first_line(error)}") from None
    if not usable:
        raise UserError(
            f"transformers has no sequence classifier with a linear head for {config.model_type} models, so no reward "
            f"model can be made of this base; it has for {', '.join(supported_types())}"
        )


def require_positions(base: Path, max_length: int) -> None:
    """Check that the base takes inputs of `max_length` tokens.

    Raises:
        UserError: it has fewer positions, or no config that can be read.
    """
    positions = getattr(read_model_config(base, num_labels=1).get_text_config(), "max_position_embeddings", None)
    if isinstance(positions, int) and 0 < positions < max_length:
        raise UserError(
            f"tokenize.max_length: {max_length} is more than the {positions} positions that the base has: "
            f"set it to {positions} or less"
        )


def has_linear_head(config: PreTrainedConfig) -> bool:
    """Whether the classifier of an architecture is its base with a linear layer, `score`, and nothing more."""
    if config.model_type not in CLASSIFIERS:
        return False
    with torch.device("meta"):  # weights of no size
        model = AutoModelForSequenceClassification.from_config(config)
    base = model.base_model_prefix + "."
    return {name for name, _ in model.named_parameters() if not name.startswith(base)} == {"score.weight"}


def supported_types() -> list[str]:
    """The model types of causal language models that can be a base, as config.json names them. Takes seconds."""
    logging.set_verbosity_error()  # default configs give warnings
    return sorted(filter(_has_linear_head_by_default, set(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)))


def _has_linear_head_by_default(model_type: str) -> bool:
    if model_type not in CLASSIFIERS:
        return False
    try:
        config_class: Any = CONFIG_MAPPING[model_type]
        return has_linear_head(config_class(num_labels=1))
    except Exception:  # of whatever type: some have no sizes by default, and all of those have a linear head
        return True


def read_model_config(folder: Path, **changes: Any) -> PreTrainedConfig:
    """The config of a folder as transformers reads it, with these changes.

    Raises:
        UserError: there is none that it can read.
    """
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **changes)
    except Exception as error:  # of whatever type: values of the wrong kind raise others than damaged JSON does
        raise UserError(f"{folder} has no config that transformers can read: {first_line(error)}") from None
