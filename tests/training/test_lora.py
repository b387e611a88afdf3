"""Training low-rank adapters: what is trained, what comes out, and what cannot be asked for."""

import dataclasses
import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from conftest import DEFAULTS, STAGES, Project
from reward_model.common.errors import UserError
from reward_model.common.tables import read_parquet
from reward_model.modeling.batching import padded_batch
from reward_model.modeling.forward import rewards
from reward_model.modeling.head import reward_head, scale_head
from reward_model.modeling.model import build_reward_model
from reward_model.params import load_params
from reward_model.training.lora import lora_adapters
from reward_model.training.run import TrainingResult
from test_training import PARAMS, assert_same_weights, encoder_of, run, token_rows

LORA = dataclasses.replace(PARAMS.lora, enabled=True)


def run_lora(
    base: Path,
    rows: list[dict[str, Any]] | None = None,
    lora: Mapping[str, Any] = MappingProxyType({}),
    **changes: Any,
) -> tuple[TrainingResult, torch.nn.Module]:
    changes = {"learning_rate": 1e-2, "lora": dataclasses.replace(LORA, **lora)} | changes
    return run(base, rows, **changes)


def test_only_the_head_and_the_adapted_layers_change(tiny_base: Path) -> None:
    before = build_reward_model(tiny_base, encoder_of(tiny_base), PARAMS.seed).state_dict()
    after = run_lora(tiny_base)[1].state_dict()
    assert list(after) == list(before)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    linear = {name for name in before if "_proj." in name}
    assert len(linear) == 2 * 7
    assert changed == linear | {"score.weight"}


def test_lora_learns_what_the_pairs_teach(tiny_base: Path) -> None:
    rows = token_rows(encoder_of(tiny_base), 40)
    result, model = run_lora(tiny_base, rows, num_train_epochs=6, head_learning_rate=0.1)
    assert result.curve[-1]["accuracy"] > 0.9
    assert result.summary["layout"] == "packed"
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_merged_model_gives_the_rewards_of_the_adapted_one(tiny_base: Path) -> None:
    encoder = encoder_of(tiny_base)
    model = build_reward_model(tiny_base, encoder, 0)
    rows = token_rows(encoder, 4)
    sides = [[row["chosen_ids"], row["rejected_ids"]] for row in rows]
    inputs = padded_batch(sides, encoder.contract.pad_token_id)
    torch.nn.init.normal_(reward_head(model).weight)
    with torch.no_grad():
        untrained = rewards(model, **inputs)
        with lora_adapters(model, LORA):
            torch.testing.assert_close(rewards(model, **inputs), untrained)
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(parameter, std=0.1)
            adapted = rewards(model, **inputs)
        assert (adapted - untrained).abs().max() > 0.1
        torch.testing.assert_close(rewards(model, **inputs), adapted, rtol=0, atol=1e-4)
    assert {type(module) for module in model.modules() if hasattr(module, "lora_A")} == set()


def test_peft_loads_the_saved_adapter_to_the_same_rewards(tiny_base: Path, tmp_path: Path) -> None:
    encoder = encoder_of(tiny_base)
    rows = token_rows(encoder, 40)
    result, model = run_lora(tiny_base, rows, num_train_epochs=3, head_learning_rate=0.1)
    scale_head(model, 0.5)
    assert result.adapter is not None
    result.adapter.save(tmp_path / "adapter", reward_head(model).weight)
    base = AutoModelForSequenceClassification.from_pretrained(tiny_base, num_labels=1, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    found, expected = [], []
    with torch.no_grad():
        for row in rows[:4]:
            for side in ("chosen_ids", "rejected_ids"):
                found.append(loaded(input_ids=torch.tensor([row[side]])).logits[0, 0].item())
                expected.append(model.eval()(input_ids=torch.tensor([row[side]])).logits[0, 0].item())
    assert found == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 0.1


def test_how_the_batch_is_computed_changes_no_result(tiny_base: Path) -> None:
    plain = run_lora(tiny_base)[1]
    assert_same_weights(plain, run_lora(tiny_base)[1])
    assert_same_weights(plain, run_lora(tiny_base, gradient_checkpointing=True)[1], tolerance=1e-5)
    divided = run_lora(tiny_base, per_device_train_batch_size=4, gradient_accumulation_steps=2)[1]
    assert_same_weights(plain, divided, tolerance=1e-3)


@pytest.mark.parametrize("changes", [{"r": 2}, {"lora_alpha": 8}, {"target_modules": ["q_proj", "v_proj"]}], ids=str)
def test_every_lora_param_counts(tiny_base: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        assert_same_weights(run_lora(tiny_base)[1], run_lora(tiny_base, lora=changes)[1], tolerance=1e-5)


def test_target_modules_that_the_base_lacks_are_one_clear_error(tiny_base: Path) -> None:
    for target in ("no_such_layer", ["no_such_layer"], ["norm"]):
        with pytest.raises(UserError, match=r"^train.lora.target_modules does not fit the base: ") as error:
            run_lora(tiny_base, lora={"target_modules": target})
        assert len(str(error.value).splitlines()) == 1


def test_the_stage_saves_a_plain_model_that_the_export_loads(project: Project) -> None:
    project.set_params({"train.lora.enabled": True, "train.lora.r": 4, "export.onnx": "none", "export.adapter": True})
    for stage in STAGES:
        project.stage(stage)
    assert not list((project.folder / "models/reward").glob("adapter_*"))
    readme = (project.folder / "models/export/adapter/README.md").read_text()
    [code] = re.findall(r"```python\n(.+?)```", readme, flags=re.DOTALL)
    chosen = read_parquet(project.folder / "data/tokens/heldout.parquet")[0]["chosen_ids"]
    show = f"with torch.no_grad(): print(model(input_ids=torch.tensor([{chosen}])).logits[0, 0].item())"
    result = project.run("-c", f"{code}\n{show}")
    assert result.returncode == 0, result.stderr
    expected = read_parquet(project.folder / "data/evaluation/heldout.parquet")[0]["chosen_reward"]
    assert float(result.stdout) == pytest.approx(expected, abs=1e-4)
    checks = project.read("metrics/export.json")
    assert checks.keys() == {"safetensors", "adapter"}
    assert all(check["max_abs_diff"] < 1e-4 for check in checks.values())


@pytest.mark.parametrize("wrong", [[], "", 3, None, [""], ["q_proj", 2], "(unclosed"], ids=str)
def test_faults_in_the_section_are_named_with_their_place(tmp_path: Path, wrong: Any) -> None:
    values = deepcopy(DEFAULTS)
    values["train"]["lora"] = {"enabled": False, "r": 0, "lora_alfa": 16, "target_modules": wrong}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError) as error:
        load_params(tmp_path / "params.yaml")
    lines = str(error.value).splitlines()[1:]
    assert len(lines) == 4
    for wanted in (
        "train.lora.r: ",
        "train.lora.lora_alfa: unknown key (did you mean lora_alpha?)",
        "train.lora.lora_alpha: missing",
        "train.lora.target_modules: all-linear, a list of names, or a regular expression is wanted",
    ):
        assert any(line.strip().startswith(wanted) for line in lines), lines
