"""A trained adapter for users who have its base: as peft's own folder, with what loads it."""

from pathlib import Path

from reward_model.common.files import ADAPTER_FOLDER, missing_input, read_json, write_text
from reward_model.exporting.formats import link_or_copy

README = """\
# Adapter

The low-rank adapter and the reward head of the model in the folder above, not merged into the base. The base is to be
cut as that model is, so its config is taken:

```python
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification

config = AutoConfig.from_pretrained("models/export"{changes})
base = AutoModelForSequenceClassification.from_pretrained("models/base", config=config, dtype=torch.float32)
model = PeftModel.from_pretrained(base, "models/export/adapter").eval()
```

`models/base` stands for the base that it was trained on, `models/export` for the folder above. Its tokenizer, chat
template and scoring contract are the adapter's, too.
"""


def place_adapter(reward: Path, base: Path, folder: Path) -> None:
    """Put the adapter of the trained model in `reward` into the folder of its export.

    Raises:
        UserError: there is none.
    """
    source, target = reward / ADAPTER_FOLDER, folder / ADAPTER_FOLDER
    if not source.is_dir():
        raise missing_input(source)
    target.mkdir()
    for path in sorted(source.iterdir()):
        link_or_copy(path, target / path.name)
    changes = "".join(f", {name}={value}" for name, value in base_config(reward, base).items())
    write_text(target / "README.md", README.format(changes=changes))


def base_config(model: Path, base: Path) -> dict[str, int | None]:
    """What the base's config has otherwise than that of the model trained on it, the number of layers apart.

    A pad token that was added to the vocabulary is not in the base.
    """
    tokens, of_base = (read_json(folder / "config.json").get("vocab_size") for folder in (model, base))
    return {} if tokens == of_base else {"vocab_size": of_base, "pad_token_id": None}
