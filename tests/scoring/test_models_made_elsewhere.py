"""Reward models that were made with plain transformers, scored as plain transformers scores them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForSequenceClassification,
)

import score
from conftest import build_tiny_tokenizer
from reward_model import RewardModelManager
from reward_model.common.errors import UserError
from reward_model.scoring.model_folder import find_model
from reward_model.serving.rendered import RenderedTextEncoder

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
}
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n\n' + "
    "message['content'] | trim + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n\n' }}{% endif %}"
)
QWEN, LLAMA = (Qwen3Config, Qwen3ForSequenceClassification), (LlamaConfig, LlamaForSequenceClassification)
CHATS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "a good answer\n"}],
    [
        {"role": "system", "content": "be good"},
        {"role": "user", "content": "the question"},
        {"role": "assistant", "content": "an answer"},
        {"role": "user", "content": "and the other question " * 5},
        {"role": "assistant", "content": "bad"},
    ],
    [{"role": "user", "content": "Q"}, {"role": "assistant", "content": ""}],
]


def save_model(folder: Path, kind: Any = LLAMA, template: str | None = LLAMA_3, **changes: Any) -> Path:
    """A random model with its tokenizer, which adds a BOS token as Llama's do."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = build_tiny_tokenizer(template, pad_token="<|endoftext|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", tokenizer.bos_token_id)]
    )
    torch.manual_seed(1)
    config, model = kind
    model(config(vocab_size=len(tokenizer), **SIZES | {"num_labels": 1} | changes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def expected_rewards(folder: Path) -> list[float]:
    """What plain transformers gives, one chat at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        return [
            model(**tokenizer.apply_chat_template(chat, return_tensors="pt", return_dict=True)).logits[0, 0].item()
            for chat in CHATS
        ]


@pytest.mark.parametrize(
    ("kind", "template", "pad_token_id"),
    [(QWEN, CHATML, 0), (QWEN, CHATML, None), (LLAMA, LLAMA_3, None), (LLAMA, LLAMA_3, 2), (LLAMA, CHATML, 2)],
    ids=["Qwen-like", "without a pad token", "Llama-3-like", "pad is the end token", "pad is not the last token"],
)
def test_it_is_scored_as_plain_transformers_does(
    tmp_path: Path, kind: Any, template: str, pad_token_id: int | None
) -> None:
    folder = save_model(tmp_path / "model", kind, template, pad_token_id=pad_token_id)
    expected = expected_rewards(folder)
    manager = RewardModelManager(device="cpu")
    model, tokenizer = cast(tuple[PreTrainedModel, PreTrainedTokenizerFast], manager.load_trained_model(folder))
    found = [manager.get_reward_score(chat[-1]["content"], cast(Any, chat[:-1])) for chat in CHATS]
    assert found == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 0.1
    rendered = [cast(str, tokenizer.apply_chat_template(chat, tokenize=False)) for chat in CHATS]
    encode = RenderedTextEncoder(manager.scorer.encoder).encode
    together = manager.scorer.rewards([[encode(text)] for text in rendered])
    assert [reward for [reward] in together] == pytest.approx(expected, abs=1e-4)
    assert type(model) is kind[1]


def test_a_pad_token_that_the_model_does_not_know_is_text(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", pad_token_id=None)
    expected = expected_rewards(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    manager = RewardModelManager(device="cpu")
    manager.load_trained_model(folder)
    found = [manager.get_reward_score(chat[-1]["content"], cast(Any, chat[:-1])) for chat in CHATS]
    assert found == pytest.approx(expected, abs=1e-4)
    ids = RenderedTextEncoder(manager.scorer.encoder).encode("[PAD] [PAD]")
    assert max(ids) < len(tokenizer) - 1


def test_the_limit_is_the_models_and_nothing_is_claimed_of_its_margins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_model(tmp_path / "model", max_position_embeddings=64)
    asked = ["score.py", "--model", str(folder), "--device", "cpu", "--prompt", "Q"]
    monkeypatch.setattr("sys.argv", [*asked, "--response_a", "good", "--response_b", "word " * 100])
    score.main()
    captured = capsys.readouterr()
    note, cuts = captured.err.splitlines()[-2:]
    assert note.startswith("note: the model was not made here: ") and "up to 64 tokens; it is not calibrated" in note
    assert cuts.startswith("note: longer than the limit of 64 tokens")
    assert "probability " not in captured.out and "is preferred (margin" in captured.out
    monkeypatch.setattr("sys.argv", [*asked, "--responses", "good", "bad", "--json"])
    score.main()
    ranking = json.loads(capsys.readouterr().out)["ranking"]
    assert {(item["probability"], item["within_noise"]) for item in ranking} == {(None, None)}
    with pytest.raises(UserError, match="has no mean and deviation of rewards"):
        RewardModelManager(device="cpu", normalize=True).load_trained_model(folder)


def causal_model(folder: Path) -> None:
    save_model(folder, (LlamaConfig, LlamaForCausalLM))


def changed_config(**changes: Any) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        path = save_model(folder) / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return build


def encoder_model(folder: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    save_model(folder, (BertConfig, BertForSequenceClassification))


def adapter(folder: Path) -> None:
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")


def changed_head(**tensors: torch.Tensor) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        path = save_model(folder) / "model.safetensors"
        head = {f"score.{name}": tensor for name, tensor in tensors.items()}
        save_file(load_file(path) | head, path, {"format": "pt"})

    return build


def fewer_embeddings(folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(save_model(folder))
    model.resize_token_embeddings(model.config.vocab_size - 1)
    model.save_pretrained(folder)


REMOTE_CODE = changed_config(
    architectures=["OwnRewardModel"], model_type="own", auto_map={"AutoModel": "modeling_own.OwnRewardModel"}
)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda folder: save_model(folder, num_labels=5), "is a classifier with 5 labels: a reward model has one"),
        (lambda folder: save_model(folder, num_labels=2), "is a classifier with 2 labels: a reward model has one"),
        (causal_model, "is a model (LlamaForCausalLM) without a reward head; a sequence classifier of "),
        (lambda folder: save_model(folder, template=None), "has no chat template, so how it takes a prompt and "),
        (
            lambda folder: save_model(folder, template="{{ raise_exception('no') }}"),
            ": no conversation can be rendered",
        ),
        (REMOTE_CODE, "is a model (OwnRewardModel): it needs code of its own, which is not run"),
        (encoder_model, ": the head of BertForSequenceClassification is no linear layer on the last token's state"),
        (adapter, "is an adapter without its base: merge the two"),
        (lambda folder: folder.mkdir(), "no trained model in "),
        (changed_config(architectures=[]), "is a model (of an architecture that its config does not name)"),
        (changed_config(architectures=3), "is a model (of an architecture that its config does not name)"),
        (changed_head(bias=torch.ones(1)), "that the head of LlamaForSequenceClassification has not: score.bias"),
        (changed_head(weight=torch.full((1, 32), torch.nan)), "has weights that are not finite: score.weight"),
        (changed_config(hidden_size="many"), "has no config that transformers can read: "),
        (
            changed_config(quantization_config={"quant_method": "gptq", "bits": 4}),
            "is not a model that can be loaded: ",
        ),
        (fewer_embeddings, "its tokenizer has a token "),
    ],
    ids=[
        "five labels",
        "two labels",
        "causal",
        "no template",
        "refusing template",
        "remote code",
        "encoder",
        "adapter",
        "empty",
        "no architecture",
        "damaged",
        "bias",
        "not finite",
        "size of a wrong type",
        "quantized",
        "tokenizer of another",
    ],
)
def test_what_cannot_be_scored_with_is_one_clear_line(
    tmp_path: Path, build: Callable[[Path], Any], message: str
) -> None:
    folder = tmp_path / "model"
    build(folder)
    with pytest.raises(UserError) as error:
        RewardModelManager(device="cpu").load_trained_model(find_model(str(folder)))
    assert message in str(error.value)
    assert str(folder) in str(error.value) and len(str(error.value).splitlines()) == 1


def test_onnx_is_for_models_exported_here(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model")
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="was not exported here, so it has no ONNX"):
        RewardModelManager(backend="onnx").load_trained_model(folder)
