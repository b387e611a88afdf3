"""Low-rank adapters (LoRA, arXiv:2106.09685) by peft: most weights stay as they are, so training takes less memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from peft import LoraConfig, TaskType
from peft.tuners.lora import LoraModel
from transformers import PreTrainedModel

from reward_model.common.errors import UserError, first_line
from reward_model.modeling.devices import fsdp_enabled
from reward_model.modeling.head import reward_head
from reward_model.params import LoraParams
from reward_model.training.distributed import is_main_process

ADAPTER_NAME = "reward"


@contextmanager
def lora_adapters(model: PreTrainedModel, params: LoraParams) -> Iterator[LoraModel | None]:
    """Train adapters and the reward head alone while the context lasts; if it ends well, merge them into the weights.

    Without `params.enabled` it changes nothing, and gives None.

    Raises:
        UserError: the model has none of `params.target_modules`.
    """
    if not params.enabled:
        yield None
        return
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,  # so that all-linear leaves out the reward head, which is trained whole
        r=params.r,
        lora_alpha=params.lora_alpha,
        target_modules=params.target_modules,
    )
    try:
        adapted = LoraModel(model, config, ADAPTER_NAME)
    except ValueError as error:
        raise UserError(f"train.lora.target_modules does not fit the base: {first_line(error)}") from None
    reward_head(model).requires_grad_(True)
    yield adapted
    if fsdp_enabled() and not is_main_process():  # the main one alone has the whole weights
        return
    adapted.merge_and_unload()
    model.requires_grad_(True)
