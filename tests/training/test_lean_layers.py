from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from reward_model.contract.base_tokenizer import contract_encoder
from reward_model.modeling.batching import Batch, packed_batch
from reward_model.modeling.forward import rewards, share_prefixes
from reward_model.modeling.head import reward_head
from reward_model.modeling.model import build_reward_model
from reward_model.training.lean_layers import RMSNorm, SwiGLUDown, lean_layers

BATCH: Batch = packed_batch([([5, 6, 7, 8, 9], [5, 6, 10]), ([11, 12, 13], [11, 14, 15, 16])], 0)


@pytest.fixture
def model(tiny_base: Path) -> PreTrainedModel:
    model = build_reward_model(tiny_base, contract_encoder(tiny_base, 64, tiny_base.parent / "lean"), 0)
    torch.nn.init.normal_(reward_head(model).weight)
    share_prefixes(model, torch.device("cpu"))
    return model.train()


def gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    model.zero_grad()
    rewards(model, **BATCH).square().sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def kept_bytes(model: PreTrainedModel) -> int:
    """Of what the graph of one forward pass keeps, parameters apart."""
    kept: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = rewards(model, **BATCH)
    assert result.requires_grad
    return sum(kept.values())


def distance(found: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> float:
    error = sum(float((found[name] - gradient).norm()) ** 2 for name, gradient in exact.items())
    return (error / sum(float(gradient.norm()) ** 2 for gradient in exact.values())) ** 0.5


def test_rewards_and_gradients_are_those_of_the_models_own_layers(model: PreTrainedModel) -> None:
    expected, of_parameters = rewards(model, **BATCH), gradients(model)
    with lean_layers(model) as changed:
        assert len(changed) == 2 * 3 + 2  # two layers of two norms and an MLP, the last norm and the positions
        torch.testing.assert_close(rewards(model, **BATCH), expected)
        found = gradients(model)
    assert found.keys() == of_parameters.keys()
    for name, gradient in of_parameters.items():
        assert float((found[name] - gradient).norm()) <= 1e-5 * float(gradient.norm()), name


def test_bfloat16_gradients_are_as_close_to_float32_as_those_of_the_models_own_layers(model: PreTrainedModel) -> None:
    exact = gradients(model)
    with torch.autocast("cpu", torch.bfloat16):
        own = gradients(model)
        with lean_layers(model):
            found = gradients(model)
    assert 0 < distance(found, exact) <= 1.5 * distance(own, exact)


def test_they_keep_less_and_leave_the_model_as_it_was(model: PreTrainedModel) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        own = kept_bytes(model)
        with lean_layers(model):
            assert kept_bytes(model) < 0.75 * own
        assert kept_bytes(model) == own


def test_the_functions_have_the_gradients_of_what_they_compute() -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator, requires_grad=True)

    assert torch.autograd.gradcheck(
        lambda states, weight: RMSNorm.apply(states, weight, 1e-3, torch.float64), (random(2, 3, 5), random(5))
    )
    assert torch.autograd.gradcheck(SwiGLUDown.apply, (random(2, 3, 7), random(2, 3, 7), random(5, 7)))


class ZeroCentredRMSNorm(LlamaRMSNorm):
    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden_states) + self.weight * 0.1


class GatedRMSNorm(LlamaRMSNorm):
    def forward(self, hidden_states: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(hidden_states) * gate


def test_layers_that_compute_something_else_stay_as_they_are() -> None:
    layers = torch.nn.ModuleList([LlamaRMSNorm(8), ZeroCentredRMSNorm(8), GatedRMSNorm(8)])
    with lean_layers(layers) as changed:
        assert changed == [layers[0]]
