"""Adapters that are saved beside the model that they are merged into, as peft saves its own."""

from copy import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.lora import LoraModel
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import save_file

from reward_model.modeling.head import HEAD

PREFIX = "base_model."  # of the names in peft's files, before those in a LoraModel


@dataclass(frozen=True)
class Adapter:
    """Low-rank adapters as trained.

    Attributes:
        config: peft's.
        weights: theirs, by their names in peft's files, on the CPU.
    """

    config: LoraConfig
    weights: dict[str, torch.Tensor]

    @classmethod
    def copy_from(cls, adapted: LoraModel, name: str) -> "Adapter":
        """What the adapter called `name` is now."""
        found = get_peft_model_state_dict(adapted, adapter_name=name, save_embedding_layers=False)
        weights = {PREFIX + key: weight.detach().cpu().clone() for key, weight in found.items()}
        config = copy(adapted.peft_config[name])
        assert isinstance(config, LoraConfig)
        config.modules_to_save = [HEAD]
        config.inference_mode = True
        return cls(config, weights)

    def save(self, folder: Path, head: torch.Tensor) -> None:
        """Write it, with the trained reward head (1, size), as a folder that `PeftModel.from_pretrained` loads."""
        folder.mkdir()
        self.config.save_pretrained(str(folder))
        weights = self.weights | {f"{PREFIX}model.{HEAD}.weight": head.detach().cpu().contiguous()}
        save_file(weights, folder / SAFETENSORS_WEIGHTS_NAME, {"format": "pt"})
