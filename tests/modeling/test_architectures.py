"""A few architectures from base to reward; tests/performance/architectures.py tries them all."""

from pathlib import Path

import pytest

from tiny_bases import try_base


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
