"""Rewards computed by onnxruntime, on the CPU, from what `onnx_export` wrote: starts in a second, without torch."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import numpy as np

from reward_model.common.errors import UserError, first_line
from reward_model.common.files import check_checksums
from reward_model.contract.encoder import CONTRACT_FILE, Encoder, Group, TokenIds

ONNX_FILE = "model.onnx"


class OnnxBackend:
    """An inference session.

    Args:
        path: the ONNX file; its inputs are input_ids and attention_mask (N, T), its output the rewards (N, 1).

    Raises:
        UserError: onnxruntime is not installed, or cannot read the file.
    """

    name = "onnx, cpu"

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UserError("onnxruntime is not installed: pip install onnxruntime, or take --backend torch") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # The extended rewrites take a second each time the file is loaded, and gain nothing here.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # what the library raises has no other type
            raise UserError(f"{path} cannot be loaded: {first_line(error)}") from None

    @classmethod
    def load(cls, folder: Path) -> tuple["OnnxBackend", Encoder]:
        """Load the ONNX file of an exported model.

        Raises:
            UserError: there is none in `folder`, or its files are not those that were exported.
        """
        if not (folder / CONTRACT_FILE).exists():
            raise UserError(f"{folder} was not exported here, so it has no ONNX that can be used: take --backend torch")
        if not (folder / ONNX_FILE).exists():
            raise UserError(f"{folder} has no {ONNX_FILE}: set export.onnx to fp32 or int8, or take --backend torch")
        with ThreadPoolExecutor(1) as pool:  # reading the file takes as long as loading it
            checked = pool.submit(check_checksums, folder, unread=(".safetensors",))
            try:
                encoder = Encoder.load(folder)
                backend = cls(folder / ONNX_FILE)
            finally:
                checked.result()  # a damaged file explains any other error
        return backend, encoder

    def score(self, groups: Sequence[Group], batch_size: int) -> Iterator[tuple[int, list[float]]]:
        """Yield each group's number and its sequences' rewards.

        A sequence at a time, whatever `batch_size` says: on a CPU padding costs what batches gain.
        """
        for number, group in enumerate(groups):
            yield number, [self._reward(ids) for ids in group]

    def token_values(self, ids: TokenIds) -> NoReturn:
        """The ONNX file gives the reward alone.

        Raises:
            UserError: always.
        """
        raise UserError("the ONNX file has no values of single tokens: to explain rewards take --backend torch")

    def _reward(self, sequence: Sequence[int]) -> float:
        ids = np.array([sequence], dtype=np.int64)
        [logits] = self.session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        return float(np.asarray(logits)[0, 0])
