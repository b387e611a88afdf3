"""Which models are reward models, whoever made them: sequence classifiers with one label."""

from pathlib import Path
from typing import Any

from reward_model.common.errors import UserError
from reward_model.common.files import read_json

CONFIG_FILE = "config.json"
CLASSIFIER = "ForSequenceClassification"  # how transformers' names of such architectures end
LABELS = 2  # of a config that does not say


def is_reward_model(folder: Path) -> bool:
    """Whether the model in `folder` is a sequence classifier with one label; without a config it is not.

    Raises:
        UserError: the config is damaged.
    """
    if not (folder / CONFIG_FILE).exists():
        return False
    config = _read_config(folder)
    return _is_classifier(config) and _count_labels(config) == 1


def refuse_other_classifiers(folder: Path) -> None:
    """Refuse a sequence classifier with several labels.

    Raises:
        UserError: it is one, or its config cannot be read.
    """
    config = _read_config(folder)
    labels = _count_labels(config)
    if _is_classifier(config) and labels != 1:
        raise UserError(f"{folder} is a classifier with {labels} labels: a reward model has one")


def require_reward_model(folder: Path) -> None:
    """Refuse what is no sequence classifier with one label.

    Raises:
        UserError: it is not, or its config cannot be read.
    """
    refuse_other_classifiers(folder)
    config = _read_config(folder)
    if _is_classifier(config):
        return
    found = ", ".join(_architectures(config)) or "of an architecture that its config does not name"
    reason = ": it needs code of its own, which is not run" if "auto_map" in config else " without a reward head"
    raise UserError(f"{folder} is a model ({found}){reason}; a sequence classifier of transformers is wanted")


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / CONFIG_FILE)
    if not isinstance(config, dict):
        raise UserError(f"{folder / CONFIG_FILE} is damaged: it is no object")
    return config


def _is_classifier(config: dict[str, Any]) -> bool:
    return any(name.endswith(CLASSIFIER) for name in _architectures(config))


def _architectures(config: dict[str, Any]) -> list[str]:
    names = config.get("architectures")
    return list(map(str, names)) if isinstance(names, list) else []


def _count_labels(config: dict[str, Any]) -> int:
    names = config.get("id2label")
    return len(names) if isinstance(names, dict) else config.get("num_labels", LABELS)
