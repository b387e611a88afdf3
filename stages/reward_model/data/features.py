"""The base's hidden states of the responses of a set: the files of data/features and data/evaluation_features."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from reward_model.common.errors import UserError
from reward_model.common.files import missing_input


@dataclass(frozen=True)
class PairFeatures:
    """Features of the two responses of each row of data/tokens, each distinct response once.

    Attributes:
        depths: numbers of layers, (depths,) int64.
        states: what a base cut to so many layers would feed its head, (depths, responses, size) float32.
        sides: which response is chosen and which rejected, (rows, 2) int64.
    """

    depths: NDArray[np.int64]
    states: NDArray[np.float32]
    sides: NDArray[np.int64]

    def at(self, depth: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The features (rows, size) of chosen and of rejected at a depth.

        Raises:
            UserError: it is none of the depths.
        """
        if depth not in self.depths:
            raise UserError(f"no features at {depth} layers: run `dvc repro`")
        states = self.states[self.depths.tolist().index(depth)].astype(float)
        return states[self.sides[:, 0]], states[self.sides[:, 1]]

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        save_file({"depths": self.depths, "states": np.ascontiguousarray(self.states), "sides": self.sides}, path)

    @classmethod
    def load(cls, path: Path) -> "PairFeatures":
        """Read what `save` wrote.

        Raises:
            UserError: the file is absent or damaged.
        """
        return cls(**read_arrays(path))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file that an earlier stage made.

    Raises:
        UserError: the file is absent or damaged.
    """
    if not path.exists():
        raise missing_input(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): remove it and run `dvc repro`") from None
