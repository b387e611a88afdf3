"""A reward model as an ONNX file, for onnxruntime: any batch, any length."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from reward_model.common.errors import UserError

OPSET = 20
BLOCK = 32  # weights that share a scale in int8


class _Rewards(torch.nn.Module):
    """The model with the inputs and the output that the file gets."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits


def export_onnx(model: PreTrainedModel, target: Path) -> None:
    """Write the model in float32: the graph into `target`, the weights beside it into `target`.data.

    The inputs are input_ids and attention_mask (N, T), padded on the right with the contract's pad token; the output
    is logits (N, 1), the rewards.

    Args:
        model: as `load_reward_model` gives it, on the CPU.
        target: the file.

    Raises:
        UserError: torch cannot export this architecture.
    """
    ids = torch.full((2, 8), 5)
    ids[1, 5:] = model.config.pad_token_id
    mask = (ids != model.config.pad_token_id).long()
    open_axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with _quiet("torch.onnx"):
            program = torch.onnx.export(
                _Rewards(model).eval(),
                (ids, mask),
                dynamo=True,
                dynamic_shapes=(open_axes, open_axes),
                input_names=["input_ids", "attention_mask"],
                output_names=["logits"],
                opset_version=OPSET,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise UserError(f"this model cannot be exported to ONNX, set export.onnx to none: {error}") from None
    assert program is not None
    # Where in the code each node comes from names folders of this machine.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    # Beside the graph, so that a reader maps the weights instead of copying them; and a file of protobuf ends at 2 GB.
    program.save(target, external_data=True)


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Without warnings, and without the remarks of these loggers on what does not matter here."""
    levels = {logger: logger.level for logger in map(logging.getLogger, names)}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def quantize(source: Path, target: Path) -> None:
    """Write the model of `source` with int8 weights; activations stay float32.

    Matrices have a scale for every `BLOCK` weights, embeddings one for the whole table. With int8 activations too, the
    default base had 15% of its preferences turned.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    matrices = source.with_name("int8_matrices.onnx")
    with _quiet("onnxruntime.quantization.matmul_nbits_quantizer", "root"):
        quantizer = MatMulNBitsQuantizer(
            str(source), bits=8, block_size=BLOCK, is_symmetric=True, op_types_to_quantize=("MatMul",)
        )
        quantizer.process()
        cast(Any, quantizer.model).save_model_to_file(str(matrices), use_external_data_format=True)
        quantize_dynamic(
            matrices,
            target,
            op_types_to_quantize=["Gather"],
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
        )
    # The library gives its weights to their owner alone.
    target.with_name(f"{target.name}.data").chmod(0o644)
