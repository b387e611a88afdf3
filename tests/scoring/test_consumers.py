"""The exported folder in the hands of its users: TRL's GRPO and RLOO, and another machine without the project."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer

from conftest import ROOT, Project
from reward_model import RewardModelManager

PROMPTS = ["What is the answer?", "Which one is good?", "Tell me more.", "Why?"]


@pytest.mark.parametrize(("trainer_class", "config_class"), [(GRPOTrainer, GRPOConfig), (RLOOTrainer, RLOOConfig)])
def test_trl_trains_with_the_contracts_rewards(
    trained: Project, tiny_base: Path, tmp_path: Path, trainer_class: Any, config_class: Any
) -> None:
    rewarded: list[tuple[list[dict[str, str]], str, float]] = []

    class Recorder(trainer_class):
        """Keeps what it rewarded, and how."""

        def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
            for prompt, completion, reward in zip(prompts, completions, rewards[:, 0].tolist(), strict=True):
                rewarded.append((prompt, completion[0]["content"], reward))
            return rewards

    export = trained.folder / "models/export"
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(tiny_base, padding_side="left")
    config = config_class(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=12,
        max_steps=2,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Recorder(
        model=AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32),
        reward_funcs=str(export),
        args=config,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": text}]} for text in PROMPTS]),
    )
    trainer.train()
    manager = RewardModelManager(device="cpu", backend="torch")
    manager.load_trained_model(export)
    assert trainer.state.global_step == 2
    assert len(rewarded) == 2 * 4
    assert len({completion for _, completion, _ in rewarded}) > 2
    for prompt, completion, reward in rewarded:
        assert reward == pytest.approx(manager.get_reward_score(completion, prompt), abs=1e-4)


SCORE = """
import importlib.util, json, sys
from reward_model import RewardModelManager
manager = RewardModelManager()
manager.load_trained_model(sys.argv[1])
heavy = [name for name in ("torch", "transformers", "dvc", "pandas") if importlib.util.find_spec(name)]
print(json.dumps({"reward": manager.get_reward_score("hello", "Say hello."), "heavy": heavy}))
"""


@pytest.mark.slow
def test_the_folder_alone_and_an_installed_package_score_on_another_machine(trained: Project, tmp_path: Path) -> None:
    """No project, params or DVC around, and neither torch nor transformers."""
    model, sources = tmp_path / "elsewhere/model", tmp_path / "sources"
    shutil.copytree(trained.folder / "models/export", model)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        sources.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, sources)
    shutil.copytree(ROOT / "stages", sources / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{sources}[onnx]"]
    subprocess.run(install, check=True, env=clean, cwd=tmp_path)
    result = subprocess.run(
        [python, "-c", SCORE, str(model)], capture_output=True, text=True, check=False, env=clean, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["heavy"] == []
    manager = RewardModelManager(device="cpu", backend="torch")
    manager.load_trained_model(model)
    assert found["reward"] == pytest.approx(manager.get_reward_score("hello", "Say hello."), abs=1e-4)
