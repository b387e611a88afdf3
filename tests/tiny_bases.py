"""Tiny random bases of many architectures, each taken from its config to rewards that plain transformers gives, too."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from conftest import build_tiny_tokenizer, default_params, make_pairs
from reward_model.common.errors import UserError
from reward_model.common.files import write_checksums
from reward_model.contract.base_model import require_classifier, require_positions
from reward_model.contract.base_tokenizer import contract_encoder
from reward_model.contract.encoder import Encoder
from reward_model.exporting.formats import save_onnx
from reward_model.modeling.batching import pairs_to_groups
from reward_model.modeling.depth import available_depths
from reward_model.modeling.head import reward_head, start_head
from reward_model.modeling.model import build_reward_model, load_reward_model, save_reward_model
from reward_model.scoring.inference import prepare_for_scoring, score_sides
from reward_model.scoring.onnx_backend import ONNX_FILE, OnnxBackend
from reward_model.training.run import train

MAX_LENGTH = 96
# By all the names that architectures have for them; each takes its own.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "moe_intermediate_size", "shared_expert_intermediate_size"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 4),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 256),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "rotary_dim"), 8),
    **dict.fromkeys(("n_group", "topk_group"), 1),
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "head_dim": 8,
    "sliding_window": 64,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Of text and pictures: the sizes are of the text.
PICTURES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
OWN: dict[str, dict[str, Any]] = {
    "deepseek_v3": {"num_key_value_heads": 4, "head_dim": None},
    "falcon": {"head_dim": None},
    "gemma3": {"vision_config": PICTURES | {"image_size": 28, "patch_size": 14}, "mm_tokens_per_image": 4},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4},
}
ARCHITECTURES = (
    *("bloom", "deepseek_v3", "falcon", "gemma", "gemma2", "gemma3", "gpt2", "gpt_neox", "gpt_oss", "jamba", "llama"),
    *("mistral", "mixtral", "mpt", "olmo2", "opt", "phi3", "qwen2", "qwen3", "qwen3_moe", "smollm3", "starcoder2"),
)


def tiny_config(model_type: str, tokens: int) -> PreTrainedConfig:
    """A config of the architecture with small sizes."""
    kind: Any = CONFIG_MAPPING[model_type]
    text = kind().get_text_config()
    own = OWN.get(model_type, {})
    sizes = SIZES | {"vocab_size": tokens} | {name: own[name] for name in own.keys() & SIZES.keys()}
    known = {name: value for name, value in sizes.items() if value is not None and hasattr(text, name)}
    if getattr(text, "sliding_window", None) is None:  # an option that is off
        known.pop("sliding_window", None)
    # Of two names for one size the second is an alias, which a config does not take beside the first.
    aliases = type(text).attribute_map
    known = {name: value for name, value in known.items() if name not in aliases}
    if text.model_type == model_type:
        return kind(**known, **{name: value for name, value in own.items() if name not in SIZES})
    return kind(text_config=known, **own)


def try_base(model_type: str, folder: Path, *, onnx: bool = False) -> dict[str, Any]:
    """Make a base, and a reward model of it as the stages do: cut, trained for an epoch, saved, loaded, scored with.

    Args:
        model_type: as config.json has it.
        folder: for the base and the model.
        onnx: whether to export to ONNX as well.

    Returns:
        `attention` and `layout` of training and scoring; `cut`, whether layers can be left out; `difference`, the
        largest between a reward and that of plain transformers; `onnx`, the same of the ONNX file, or None where it
        cannot be made.
    """
    base, saved = folder / "base", folder / "model"
    save_tiny_base(model_type, base)
    require_classifier(base)
    require_positions(base, MAX_LENGTH)
    encoder = contract_encoder(base, MAX_LENGTH, folder / "tokenizer")
    rows = _token_rows(encoder)
    depths = available_depths(build_reward_model(base, encoder, seed=0))
    model = build_reward_model(base, encoder, seed=0, layers=depths[len(depths) // 2])
    attention = model.config._attn_implementation
    layout = _train(model, encoder, rows)
    saved.mkdir()
    save_reward_model(model, encoder, saved)
    write_checksums(saved)
    expected = _plain_rewards(saved, rows)
    assert expected.std() > 0.01  # else nothing could differ
    return {
        "attention": attention,
        "layout": layout,
        "cut": len(depths) > 1,
        "difference": float((_score(saved, rows, encoder.contract.pad_token_id) - expected).abs().max()),
        "onnx": _onnx_difference(saved, rows, expected) if onnx else None,
    }


def save_tiny_base(model_type: str, folder: Path) -> None:
    """Save a random causal language model of the architecture with a tokenizer."""
    tokenizer = build_tiny_tokenizer()
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_config(model_type, len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _token_rows(encoder: Encoder) -> list[dict[str, Any]]:
    rows = []
    for row in make_pairs(8):
        ids = encoder.encode([{"role": "user", "content": row["prompt"]}], [row["chosen"], row["rejected"]]).ids
        rows.append({"prompt_id": row["prompt"], "chosen_ids": ids[0], "rejected_ids": ids[1], "margin": 0.0})
    return rows


def _train(model: PreTrainedModel, encoder: Encoder, rows: list[dict[str, Any]]) -> str:
    """Train for an epoch; the layout it was done in."""
    start_head(model, torch.linspace(-1, 1, reward_head(model).in_features))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    params = dataclasses.replace(
        default_params().train, device="cpu", precision="fp32", warmup_ratio=0.0, freeze_layers=0
    )
    layout = train(model, encoder, rows, params).summary["layout"]
    assert all(weight.isfinite().all() for weight in model.state_dict().values())
    assert sum(not weight.equal(before[name]) for name, weight in model.state_dict().items()) > 2  # not the head alone
    return layout


def _score(folder: Path, rows: list[dict[str, Any]], pad_token_id: int) -> torch.Tensor:
    """The rewards (2, rows) as evaluate and score.py compute them."""
    model, _ = load_reward_model(folder)
    prepare_for_scoring(model, pairs_to_groups(rows), pad_token_id, "cpu", "fp32")
    return torch.tensor(score_sides(model, rows, pad_token_id, 2, "rewards"))


def _onnx_difference(folder: Path, rows: list[dict[str, Any]], expected: torch.Tensor) -> float | None:
    try:
        save_onnx(folder, folder, int8=False)
    except UserError:
        return None
    found = [rewards for _, rewards in OnnxBackend(folder / ONNX_FILE).score(pairs_to_groups(rows), 1)]
    return float((torch.tensor(found).T - expected).abs().max())


@torch.no_grad()
def _plain_rewards(folder: Path, rows: list[dict[str, Any]]) -> torch.Tensor:
    """The rewards (2, rows) that transformers alone gives, text by text."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return torch.tensor(
        [[model(torch.tensor([row[side]])).logits.item() for row in rows] for side in ("chosen_ids", "rejected_ids")]
    )
