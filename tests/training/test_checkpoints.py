"""A training resumes from its own checkpoints: what does not concern the weights does not change its key."""

from pathlib import Path
from typing import cast

import pytest
import torch

from conftest import BEFORE_TRAINING, Project
from reward_model.common.errors import UserError
from reward_model.modeling.model import build_reward_model
from reward_model.training.run import train
from test_training import PARAMS, encoder_of, token_rows

PRINT_KEY = """
import sys
sys.path.insert(0, "stages")
import train
print(train.training_key(train.training_facts(train.load_params().train, {})))
"""


@pytest.fixture
def tokenized(project: Project) -> Project:
    for name in BEFORE_TRAINING:
        project.stage(name)
    return project


def key(project: Project) -> str:
    result = project.run("-c", PRINT_KEY)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_key_knows_the_code_that_trains_and_no_other(tokenized: Project) -> None:
    package = tokenized.folder / "stages/reward_model"
    before = key(tokenized)

    def edit(module: str) -> None:
        with (package / module).open("a") as file:
            file.write("# a remark\n")

    for module in (
        "exporting/model_card.py",
        "evaluation/report.py",
        "scoring/manager.py",
        "data/readers.py",
        "params.py",
    ):
        edit(module)
    assert key(tokenized) == before
    keys = {before}
    for module in ("training/losses.py", "modeling/attention.py", "contract/encoder.py", "common/tables.py"):
        edit(module)
        keys.add(key(tokenized))
    assert len(keys) == 5


def test_the_models_forward_is_its_own_again_after_a_training_that_failed(tiny_base: Path) -> None:
    encoder = encoder_of(tiny_base)
    model = build_reward_model(tiny_base, encoder, 0)
    with torch.no_grad():
        cast(torch.nn.Linear, model.get_submodule("score")).weight.fill_(torch.inf)
    with pytest.raises(UserError, match="not finite"):
        train(model, encoder, token_rows(encoder, 20), PARAMS)
    assert "forward" not in vars(model)
