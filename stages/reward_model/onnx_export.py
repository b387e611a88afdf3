"""A reward model as an ONNX file, for onnxruntime: any batch, any length."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import PreTrainedModel

from reward_model.errors import UserError

OPSET = 20


class _Rewards(torch.nn.Module):
    """The model with the inputs and the output that the file gets."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits


def export_onnx(model: PreTrainedModel, target: Path) -> None:
    """Write the model in float32.

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
        with _quiet():
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
    program.save(target, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on what is not installed and not used here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def quantize(source: Path, target: Path) -> None:
    """Write the model of `source` with int8 weights, each output channel with a scale of its own."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Its advice is for models with convolutions.
    logging.getLogger().addFilter(_is_no_advice)
    try:
        quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)
    finally:
        logging.getLogger().removeFilter(_is_no_advice)


def _is_no_advice(record: logging.LogRecord) -> bool:
    return "pre-processing before quantization" not in record.getMessage()
