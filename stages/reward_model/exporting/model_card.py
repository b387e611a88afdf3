"""The model card: what a reader of the exported folder, or of its page on a hub, needs to know."""

from typing import Any

from reward_model.evaluation.metrics import percent
from reward_model.evaluation.report import results_table, verdict_in_words

PERMISSIVE = {"apache-2.0", "mit"}

CARD = """\
---
library_name: transformers
pipeline_tag: text-classification
tags: [reward-model, rlhf]
base_model: {base}
license: {license_tag}
---

# {title}

A reward model: it reads a conversation and gives the assistant's last answer a number. Higher means that those who
judged its training data would more likely prefer it. Only differences between answers to the same prompt mean
something: sigmoid(difference / {temperature:.2f}) is the probability of the preference. This was fitted on
{validation_pairs} validation pairs, and on {training_pairs} training pairs as they were judged before the model was
trained on them. Taken together, those of these pairs whose difference is up to {noise_margin:.2f} were not shown to be
ranked better than by chance.

| | |
|---|---|
| base model | {base}{base_form}, its first {layers} layers; the upper {trained_layers} were trained |
| licence of the base | {base_license} |
| training data | {data}, {train_pairs} pairs |
| licence of the data | {data_license} |
| training | {epochs:g} epoch(s), learning rate {learning_rate:g}, effective batch {effective_batch}, {precision} |
| tokens at most | {max_length} |

{data_note}

## How good it is

Accuracy is how often the preferred response gets the higher reward. Beside it stand rules that know nothing of this
model: the model has learned something only where it is ahead of the best of them, and that is shown only where the
interval of the gain is above zero.

{results}

{caveats}

`heldout` are pairs whose prompts were not trained on; `mt_bench_human` are MT-Bench pairs judged by experts
(CC BY 4.0); in `common_sense` held-out chosen responses, or their first sentences, stand against ones that are worse by
construction (a reply that says nothing, another prompt's response, one word repeated, …). {degenerate} such
comparisons were trained on too, with other phrases.

## Use

Render the conversation with the tokenizer's chat template, encode it without adding special tokens, and read the single
logit. The template ends in the end-of-turn token, where the reward is read; pad with the tokenizer's pad token.
`models/export` stands for this folder, or for its name on a hub.

```python
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("models/export")
model = AutoModelForSequenceClassification.from_pretrained("models/export")
chat = [{{"role": "user", "content": "What is 2 + 2?"}}, {{"role": "assistant", "content": "4"}}]
text = tokenizer.apply_chat_template(chat, tokenize=False)
with torch.no_grad():
    reward = model(**tokenizer(text, add_special_tokens=False, return_tensors="pt")).logits[0, 0].item()
```

## Files

Each form of the model was loaded again and scored on {checked_pairs} held-out pairs beside the trained model:

| form | size | rewards differ by at most | same preference |
|---|---|---|---|
{artefacts}

`calibration.json` has the temperature; `scoring_contract.json` the limits and token ids that rewards depend on;
`metadata.json` what the model was made of: params, hashes, versions, counts and figures. For a reward around zero take
(reward - {reward_mean:.3f}) / {reward_std:.3f}, mean and standard deviation over the responses of the validation pairs.

## Limits

It repeats the judgements it was trained on, with their biases (for length among them), and is not a judge of truth or
safety. Text unlike the training data, other languages above all, gets rewards of unknown worth.
"""

WHEEL_FORM = " (weights of 4 bits, Q4_1, turned into float32)"
SAMPLE_NOTE = (
    "The pairs are outputs of about 30 models, judged by two AI annotators (AlpacaEval's `claude` and `gpt4`) who "
    "agree; no person judged them. The AlpacaEval project marks its data CC BY-NC 4.0: not for commercial use."
)


def license_tag(base: str, data: str) -> str:
    """The hub's tag for a model that is bound by two licences: the stricter one, if the other asks for little."""
    licenses = {base, data} - PERMISSIVE or {data}
    return "other" if len(licenses) > 1 or licenses == {"unknown"} else licenses.pop()


def write_card(metadata: dict[str, Any], checks: dict[str, dict[str, float]]) -> str:
    """The model card, from metadata.json and the checks of the exported forms."""
    data, training, calibration = metadata["data"], metadata["training"], metadata["calibration"]
    params = metadata["params"]
    return CARD.format(
        title=params["export"]["model_name"],
        temperature=calibration["temperature"],
        training_pairs=calibration["training_pairs"],
        noise_margin=calibration["noise_margin"],
        validation_pairs=calibration["pairs"],
        base=metadata["base"]["name"],
        base_form=WHEEL_FORM if params["base"]["source"] == "wheel" else "",
        base_license=metadata["base"]["license"],
        data=data["name"],
        data_license=data["license"],
        license_tag=license_tag(metadata["base"]["license"], data["license"]),
        data_note=SAMPLE_NOTE if params["data"]["source"] == "sample" else "",
        train_pairs=data["tokens"]["train"]["pairs"],
        degenerate=training["degenerate"],
        epochs=params["train"]["num_train_epochs"],
        learning_rate=params["train"]["learning_rate"],
        effective_batch=training["effective_batch"],
        layers=training["layers"],
        trained_layers=training["layers"] - training["frozen_layers"],
        precision=training["precision"],
        max_length=params["tokenize"]["max_length"],
        checked_pairs=checks["safetensors"]["pairs"],
        reward_mean=calibration["reward_mean"],
        reward_std=calibration["reward_std"],
        artefacts="\n".join(artefact_row(name, check) for name, check in checks.items()),
        results=results_table(metadata["evaluation"]),
        caveats="\n".join(caveat(name, figures) for name, figures in metadata["evaluation"].items()),
    )


def caveat(name: str, figures: dict[str, Any]) -> str:
    """What a set's figures say of the model, and of its liking for length."""
    shorter = figures["shorter_preferred"]
    return (
        f"- `{name}`: {verdict_in_words(figures['verdict'])} in accuracy, "
        f"{verdict_in_words(figures['loss_gain']['verdict'])} in log loss; right on {percent(shorter['accuracy'])} of "
        f"the {shorter['n']} pairs in which the shorter response is the preferred one."
    )


def artefact_row(name: str, check: dict[str, float]) -> str:
    """A line of the table of files."""
    size, agreement = f"{check['bytes'] / 1e6:.0f} MB", f"{check['preference_agreement']:.1%}"
    return f"| {name} | {size} | {check['max_abs_diff']:.1g} | {agreement} |"
