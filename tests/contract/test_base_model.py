"""Which models can be a base."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, BloomConfig, Gemma2Config, GPT2Config, GraniteConfig, LlamaConfig

from reward_model.common.errors import UserError
from reward_model.contract.base_model import require_classifier, require_positions


@pytest.mark.parametrize("config", [LlamaConfig(), GPT2Config(), Gemma2Config(), BloomConfig()])
def test_architectures_whose_classifier_every_loader_knows_are_taken(tmp_path: Path, config: Any) -> None:
    config.save_pretrained(tmp_path)
    require_classifier(tmp_path)


@pytest.mark.parametrize("config", [GraniteConfig(), BertConfig()])
def test_others_are_refused_with_those_that_are_taken(
    tmp_path: Path, config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = dict.fromkeys(("bert", "llama", "nemotron"))  # of all, they take seconds
    monkeypatch.setattr("transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", taken)
    config.save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match=rf"no sequence classifier .* {config.model_type} models.* has for llama, nemotron$"
    ):
        require_classifier(tmp_path)


def test_an_architecture_that_transformers_does_not_know_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "my_own", "auto_map": {"AutoConfig": "own.Config"}}')
    with pytest.raises(UserError, match="no config that transformers can read"):
        require_classifier(tmp_path)


def test_a_config_of_which_no_model_can_be_made_is_one_error(tmp_path: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4, "hidden_act": "gelo"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"no model can be made of its config: .*gelo"):
        require_classifier(tmp_path)


def test_more_tokens_than_the_base_has_positions_are_refused(tmp_path: Path) -> None:
    GPT2Config(n_positions=64).save_pretrained(tmp_path)
    require_positions(tmp_path, 64)
    with pytest.raises(UserError, match=r"tokenize\.max_length: 65 is more than the 64 positions"):
        require_positions(tmp_path, 65)
    BloomConfig().save_pretrained(tmp_path)  # has no positions that could run out
    require_positions(tmp_path, 100_000)
