"""Rewards computed by peft: an exported adapter on its base, as the README.md beside it says."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import reward_model.common.environment  # noqa: F401

# The environment comes before torch.
# isort: split
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification

from reward_model.common.errors import UserError
from reward_model.common.files import ADAPTER_FOLDER
from reward_model.contract.encoder import Group, TokenIds
from reward_model.exporting.adapter import base_config
from reward_model.modeling.quiet import quiet_transformers


class AdapterBackend:
    """An adapter, not merged, in float32 on the CPU.

    Args:
        folder: the export, with the adapter in it.
        base: what it was trained on.
    """

    name = "peft, cpu"

    def __init__(self, folder: Path, base: Path) -> None:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, **base_config(folder, base))
            model = AutoModelForSequenceClassification.from_pretrained(base, config=config, dtype=torch.float32)
            self._model = PeftModel.from_pretrained(model, str(folder / ADAPTER_FOLDER)).eval()

    @torch.inference_mode()
    def score(self, groups: Sequence[Group], batch_size: int) -> Iterator[tuple[int, list[float]]]:
        """Yield each group's number and its sequences' rewards, computed one at a time."""
        for number, group in enumerate(groups):
            yield number, [self._model(input_ids=torch.tensor([ids])).logits[0, 0].item() for ids in group]

    def token_values(self, ids: TokenIds) -> NoReturn:
        """Not computed.

        Raises:
            UserError: always.
        """
        raise UserError("the merged model gives the values of tokens, its adapter does not")
