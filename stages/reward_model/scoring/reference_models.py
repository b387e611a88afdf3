"""Other reward models, to put beside the trained one: evaluate.reference_models."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import reward_model.common.environment  # noqa: F401
from reward_model.common.messages import Row
from reward_model.contract.chat_template import TemplateRefuses
from reward_model.contract.encoder import Encoder
from reward_model.data.pairs import Pair
from reward_model.data.tokens import TokenRow, encode_pairs
from reward_model.scoring.inference import score_sides
from reward_model.scoring.torch_backend import TorchBackend


class ReferenceModel:
    """A reward model on its device, in float32, with its own tokenizer, template and limit of length."""

    def __init__(self, name: str, folder: Path, device: str, batch_size: int) -> None:
        """Load it.

        Args:
            name: for people.
            folder: the model's.
            device: auto, cuda, mps or cpu.
            batch_size: prompts computed at a time.

        Raises:
            UserError: it is no reward model, or the device is not on this machine.
        """
        self.name = name
        self.batch_size = batch_size
        self.backend, self.encoder = TorchBackend.load(folder, device, "fp32")

    def score(self, pairs: Sequence[Pair], rows: Sequence[Row], set_name: str) -> NDArray[np.float64]:
        """The rewards of chosen and of rejected, shape (2, pairs); nan where its template refuses the prompt.

        Args:
            pairs: of a set.
            rows: theirs in data/tokens or data/external_sets; the responses of one `row` of a set are cut alike.
            set_name: for the progress bar.
        """
        encoded = encode_rows(self.encoder, pairs, rows)
        known = [number for number, row in enumerate(encoded) if row is not None]
        rewards = np.full((2, len(pairs)), np.nan)
        if known:
            taken = [row for row in encoded if row is not None]
            label = f"{self.name}: {set_name}"
            rewards[:, known] = score_sides(
                self.backend.model, taken, self.backend.pad_token_id, self.batch_size, label
            )
        if refused := len(pairs) - len(known):
            print(f"{self.name}: its chat template refuses {refused} of {len(pairs)} pairs of {set_name}")
        return rewards


def encode_rows(encoder: Encoder, pairs: Sequence[Pair], rows: Sequence[Row]) -> list[TokenRow | None]:
    """Each pair as token ids, cut as the evaluation cuts it; None where the template refuses the prompt."""
    encoded: list[TokenRow | None] = []
    keys = [row.get("row", f"pair {number}") for number, row in enumerate(rows)]
    for _, group in groupby(zip(keys, pairs, strict=True), key=lambda item: item[0]):
        own = [pair for _, pair in group]
        try:
            encoded += encode_pairs(encoder, own)[0]
        except TemplateRefuses:
            encoded += [None] * len(own)
    return encoded
