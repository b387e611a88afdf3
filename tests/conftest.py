"""A tiny base model, a few pairs, and a project folder to run stages in."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

import reward_model.common.environment  # noqa: F401
from reward_model.params import Params

ROOT = Path(__file__).parents[1]
STAGES = (  # all but fetch
    "prepare",
    "tokenize_pairs",
    "external_sets",
    "features",
    "evaluation_features",
    "probe",
    "train",
    "baselines",
    "evaluate",
    "explain",
    "report",
    "export",
)
BEFORE_TRAINING = ("prepare", "tokenize_pairs", "features", "probe")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker is left alone with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def committed(name: str) -> str | None:
    """A file of the project as git has committed it; None where git is not there, or has no such file."""
    try:
        result = subprocess.run(
            ["git", "show", f"HEAD:./{name}"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
        )
    except FileNotFoundError:
        return None
    return result.stdout if result.returncode == 0 else None


def values_of_keys(fields: Mapping[str, Any], values: Any, others: Any) -> dict[str, Any]:
    """The value of every key of params, from `values` or else from `others`."""
    found = {}
    for key, field in fields.items():
        value, other = ((each or {}).get(key) for each in (values, others))
        within = getattr(field.type, "__dataclass_fields__", None)
        if within is not None:
            found[key] = values_of_keys(within, value, other)
        else:
            found[key] = value if key in (values or {}) else other
    return found


def read_defaults() -> dict[str, Any]:
    """The committed params, whatever a user has set in the working copy; from there come keys that are new."""
    values = yaml.safe_load(committed("params.yaml") or "{}")
    working = None
    with suppress(yaml.YAMLError):
        working = yaml.safe_load((ROOT / "params.yaml").read_text())
    return values_of_keys(Params.__dataclass_fields__, values, working)


DEFAULTS = read_defaults()


def default_params() -> Params:
    return TypeAdapter(Params).validate_python(DEFAULTS)


CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tiny_tokenizer(chat_template: str | None = CHAT_TEMPLATE, pad_token: str = "<|im_end|>") -> Any:
    """A byte-level BPE tokenizer with SmolLM2's control tokens, trained on a few words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(
        ["the answer is good system user assistant\n\n", "a bad answer to the question"], trainer
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token=pad_token,
        unk_token="<|endoftext|>",
        chat_template=chat_template,
    )


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer Llama and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny") / "base"
    tokenizer = build_tiny_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_pairs(count: int) -> list[dict[str, str]]:
    """The first rows of the committed pairs, whose chosen responses are plainly different from the rejected ones."""
    lines = (ROOT / "tests/data/pairs.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[:count]]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


class Project:
    """A folder with the project's stages and params, where each stage runs as a user runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set_params(self, changes: dict[str, Any]) -> None:
        """Set keys given as `section.key`."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            *sections, name = key.split(".")
            reduce(getitem, sections, params)[name] = value
        path.write_text(yaml.safe_dump(params))

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder with this Python; both outputs as text."""
        return subprocess.run(
            [sys.executable, *command], cwd=self.folder, capture_output=True, text=True, check=False, **options
        )

    def stage(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run a stage; it must succeed."""
        result = self.run(f"stages/{name}.py")
        assert result.returncode == 0, result.stderr
        return result

    def read(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())


def write_defaults(folder: Path) -> Path:
    """Put the default params into a folder."""
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(DEFAULTS))
    return path


def tiny_params() -> dict[str, Any]:
    return {
        "data.source": "path",
        "data.path": "data/own/pairs.jsonl",
        "data.validation_fraction": 0.25,
        "data.heldout_fraction": 0.3,
        "tokenize.max_length": 160,
        "train.precision": "fp32",
        "train.device": "cpu",
        "train.learning_rate": 1e-3,
        "train.head_learning_rate": 1e-2,
        "train.num_train_epochs": 4,
        "train.per_device_train_batch_size": 2,
        "train.gradient_accumulation_steps": 4,
        "train.freeze_layers": 0,
        "base.source": "path",
        "base.path": "models/own",
    }


def build_project(folder: Path, tiny_base: Path) -> Project:
    """A project folder set up for tiny runs; the fetched inputs are put there as fetch would."""
    shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    write_defaults(folder)
    (folder / "data/own").mkdir(parents=True)
    (folder / "data/raw").mkdir()
    (folder / "data/external").mkdir()
    write_rows(folder / "data/own/pairs.jsonl", make_pairs(60))
    write_rows(folder / "data/raw/mt_bench_human.jsonl", [mt_bench_row(number) for number in range(6)])
    for name in ("base", "own"):
        shutil.copytree(tiny_base, folder / "models" / name)
    project = Project(folder)
    project.set_params(tiny_params())
    return project


@pytest.fixture
def project(tmp_path: Path, tiny_base: Path) -> Project:
    """A project of the test's own, in which no stage has run."""
    return build_project(tmp_path / "project", tiny_base)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Project:
    """A project whose stages have all run once. Not to be changed by a test."""
    project = build_project(tmp_path_factory.mktemp("trained") / "project", tiny_base)
    for name in STAGES:
        project.stage(name)
    return project


def mt_bench_row(number: int) -> dict[str, Any]:
    return {
        "prompt": f"expert question {number}",
        "chosen": f"good answer {number}",
        "rejected": f"bad {number}",
        "source": "mt_bench/writing",
    }
