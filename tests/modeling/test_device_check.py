"""The check of an accelerator: what it finds, and what is chosen then. The CPU stands in for the accelerator."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from reward_model.common.errors import UserError
from reward_model.contract.base_tokenizer import contract_encoder
from reward_model.modeling import device_check
from reward_model.modeling.device_check import check_device, choose_compute
from reward_model.modeling.devices import choose_dtype
from reward_model.modeling.model import build_reward_model

GROUPS = [([5, 6, 7, 8, 9, 2], [5, 6, 7, 10, 2]), ([11, 12, 2], [11, 13, 14, 2]), ([4, 2], [3, 2]), ([7, 2], [8, 2])]
CPU, FP32, BF16 = torch.device("cpu"), torch.float32, torch.bfloat16


@pytest.fixture
def model(tiny_base: Path, tmp_path: Path) -> PreTrainedModel:
    return build_reward_model(tiny_base, contract_encoder(tiny_base, 64, tmp_path), seed=0)


@contextmanager
def altered_states(model: PreTrainedModel, alter: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Half precision, as under autocast, whose states come out otherwise."""

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        if torch.is_autocast_enabled("cpu"):
            output.last_hidden_state = alter(output.last_hidden_state)
        return output

    handle = model.base_model.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def test_a_device_that_computes_as_the_cpu_has_no_fault(model: PreTrainedModel) -> None:
    for dtype in (FP32, BF16):
        assert check_device(model, GROUPS, 0, CPU, dtype) is None


def test_states_that_are_off_are_found(model: PreTrainedModel) -> None:
    with altered_states(model, lambda states: states + 0.3 * states.abs()):
        assert "states differ from the CPU's" in str(check_device(model, GROUPS, 0, CPU, BF16))
        assert check_device(model, GROUPS, 0, CPU, FP32) is None


def test_states_that_are_no_numbers_are_found(model: PreTrainedModel) -> None:
    with altered_states(model, lambda states: states * torch.nan):
        assert "by nan of their size" in str(check_device(model, GROUPS, 0, CPU, BF16))


def test_gradients_that_are_off_are_found(model: PreTrainedModel) -> None:
    with altered_states(model, lambda states: states + 0.5 * (states - states.detach())):
        assert "gradients differ from the CPU's" in str(check_device(model, GROUPS, 0, CPU, BF16))


def test_a_later_token_that_leaks_is_found(model: PreTrainedModel) -> None:
    """Too little to be seen in the states themselves, which rounding moves by more."""

    def leak(states: torch.Tensor) -> torch.Tensor:
        return states + 0.01 * states.roll(-1, dims=1)

    with altered_states(model, leak):
        assert "a later token changes earlier states" in str(check_device(model, GROUPS, 0, CPU, BF16))


def test_an_operation_that_the_device_lacks_is_a_fault_and_the_model_stays_usable(model: PreTrainedModel) -> None:
    def refuse(states: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("no such operation\nsecond line")

    with altered_states(model, refuse):
        assert check_device(model, GROUPS, 0, CPU, BF16) == "no such operation"
    assert model.device == CPU
    assert check_device(model, GROUPS, 0, CPU, BF16) is None


@pytest.mark.parametrize(
    ("faulty", "device", "dtype"),
    [([], "cuda", BF16), ([BF16], "cuda", FP32), ([BF16, FP32], "cpu", FP32)],
    ids=["no fault", "half precision is off", "all is off"],
)
def test_float32_comes_next_and_then_the_cpu_with_a_line_for_each(
    model: PreTrainedModel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    faulty: list[torch.dtype],
    device: str,
    dtype: torch.dtype,
) -> None:
    monkeypatch.setattr(device_check, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(device_check, "choose_dtype", lambda _, on: BF16 if on.type == "cuda" else FP32)
    monkeypatch.setattr(device_check, "check_device", lambda *given, **_: "it is off" if given[-1] in faulty else None)
    chosen = choose_compute(model, GROUPS, 0, "auto", "auto")
    assert (chosen.device.type, chosen.dtype) == (device, dtype)
    names = [str(each).removeprefix("torch.") for each in faulty]
    assert chosen.problems == tuple(f"cuda in {name}: it is off" for name in names)
    printed = capsys.readouterr().err.splitlines()
    assert printed == [f"the device check failed on cuda in {name}: it is off" for name in names]


def test_the_cpu_is_not_checked(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        device_check, "check_device", lambda *_, **__: pytest.fail("the CPU is what others are compared with")
    )
    assert choose_compute(model, GROUPS, 0, "cpu", "fp32").problems == ()


def test_a_device_that_is_not_there_is_one_error(model: PreTrainedModel) -> None:
    with pytest.raises(UserError, match="the device mps is not on this machine"):
        choose_compute(model, GROUPS, 0, "mps", "auto")


def test_scoring_is_checked_without_gradients_also_where_they_are_off(model: PreTrainedModel) -> None:
    with torch.inference_mode():
        assert check_device(model, GROUPS, 0, CPU, BF16, gradients=False) is None
    with altered_states(model, lambda states: states + 0.3 * states.abs()):
        assert "states differ" in str(check_device(model, GROUPS, 0, CPU, BF16, gradients=False))


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, BF16),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, FP32),
        ({"cpu_name": "AMD EPYC 9655", "avx512_bf16": True, "amx_bf16": False}, BF16),
        ({"cpu_name": "AMD EPYC 7763", "avx512_bf16": False, "amx_bf16": False}, FP32),
        ({"architecture": "arm64", "bf16": True}, FP32),
    ],
)
def test_cpus_get_bfloat16_where_they_are_fast_at_it(
    capabilities: dict[str, Any], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_dtype("auto", CPU) is expected
    assert choose_dtype("bf16", CPU) is BF16
    assert choose_dtype("fp32", CPU) is FP32
