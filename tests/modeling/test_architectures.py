"""A few architectures from base to reward; tests/performance/architectures.py tries them all."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from reward_model.training.freezing import freeze_layers
from tiny_bases import tiny_config, try_base


@pytest.mark.parametrize(
    ("model_type", "attention", "layout"),
    [
        ("gpt2", "sdpa", "packed"),  # learned positions
        ("gemma2", "eager", "padded"),  # capped scores, sliding windows
        ("bloom", "eager", "padded"),  # a bias by distance
    ],
)
def test_a_base_of_another_architecture_becomes_a_reward_model(
    tmp_path: Path, model_type: str, attention: str, layout: str
) -> None:
    tried = try_base(model_type, tmp_path)
    assert (tried["attention"], tried["layout"]) == (attention, layout)
    assert tried["difference"] < 1e-4


@pytest.mark.parametrize("model_type", ["bloom", "gemma3", "gpt2", "llama", "mpt", "opt"])
def test_backward_stops_above_frozen_layers(model_type: str) -> None:
    model = AutoModelForSequenceClassification.from_config(tiny_config(model_type, 64))
    ids = torch.arange(3, 9)[None]
    with freeze_layers(model, 0.5) as frozen:
        states = model.base_model(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states
        trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert frozen == 2
    assert [state.requires_grad for state in states] == [False, False, False, True, True]
    states[-1].sum().backward()
    reached = {name for name, weight in model.named_parameters() if weight.grad is not None}
    head = {name for name, _ in model.named_parameters() if name.startswith("score")}
    # A picture encoder has no part in a text.
    assert trained - head - {name for name in trained if "vision" in name or "projector" in name} == reached
    assert all(weight.requires_grad for weight in model.parameters())
