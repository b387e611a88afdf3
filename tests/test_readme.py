"""What the README says of params, commands and results is what the code has."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from conftest import ROOT
from reward_model.evaluation.report import results_table
from reward_model.params import Params

README = (ROOT / "README.md").read_text()


def params_rows(fields: Mapping[str, Any], values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The rows of the params table, in the order of params.yaml."""
    for key, field in fields.items():
        within = getattr(field.type, "__dataclass_fields__", None)
        if within is not None:
            yield from params_rows(within, values[key], f"{before}{key}.")
            continue
        value = values[key]
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
        row = f"| `{before}{key}` | `{shown}` |"
        yield f"{row} {field.default.description} |" if before else row


def test_the_params_table_has_every_key_with_its_default_and_meaning() -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    rows = list(params_rows(Params.__dataclass_fields__, values))
    assert len(rows) > 40
    missing = [row for row in rows if row not in README]
    assert not missing, "\n".join(missing)


def test_the_results_table_is_that_of_the_committed_metrics() -> None:
    assert results_table(json.loads((ROOT / "metrics/eval.json").read_text())) in README


def test_every_file_and_make_target_that_is_named_exists() -> None:
    for name in re.findall(r"`((?:stages|metrics|data|models|tests)/[\w/.]+\.(?:py|json|md))`", README):
        assert (ROOT / name).exists() or name.startswith("models/"), name
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|\$ )make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
