"""Other reward models beside the trained one, and what is said of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import build_tiny_tokenizer
from reward_model.common.messages import Message
from reward_model.contract.base_tokenizer import contract_encoder
from reward_model.data.pairs import Pair
from reward_model.evaluation.accuracy_chart import REFERENCE, accuracy_chart
from reward_model.evaluation.reference_columns import reference_columns, reference_temperature
from reward_model.evaluation.reference_models import reference_figures
from reward_model.evaluation.report import results_table, set_report
from reward_model.scoring.reference_models import encode_rows
from test_metrics import figures, table

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=400)
LABELS = (1 / (1 + np.exp(-LOGITS)) > RNG.uniform(size=400)) * 2 - 1  # of pairs whose log odds are known
OURS, COIN = LOGITS * LABELS, RNG.normal(size=400)
MODELS = [{"name": "too/sure", "temperature": 10.0}, {"name": "coin", "temperature": 10.0}]


def with_references(*margins: np.ndarray) -> pd.DataFrame:
    """Our pairs with the margins of other models."""
    columns = {
        name: values
        for number, of_model in enumerate(margins)
        for name, values in zip(reference_columns(number), (of_model, 0 * of_model), strict=True)
    }
    return table(OURS, **columns)


def compare(pairs: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return reference_figures(pairs, MODELS, 1.0, bootstrap_samples=500, seed=0)


def test_scale_costs_a_model_nothing_but_its_uncalibrated_log_loss() -> None:
    found = compare(with_references(OURS * 10, COIN))
    same, coin = found["too/sure"], found["coin"]
    assert same["accuracy_gain"]["gain"] == 0
    assert same["loss_gain"]["gain"] == pytest.approx(0)
    assert same["loss_uncalibrated"] > 2 * same["loss"]
    assert coin["accuracy"] == pytest.approx(0.5, abs=0.1)
    for gain in ("accuracy_gain", "loss_gain"):
        assert coin[gain]["ci95"][0] > 0
        assert coin[gain]["verdict"] == {"outcome": "better", "over": "coin"}


def test_pairs_that_a_model_does_not_take_are_left_out_of_both_sides() -> None:
    half = np.where(np.arange(400) < 100, np.nan, COIN)
    found = compare(with_references(np.full(400, np.nan), half))
    assert set(found) == {"coin"}, "a model that takes none has no figures"
    assert found["coin"]["n"] == 300
    gain = (OURS[100:] > 0).mean() - (COIN[100:] > 0).mean()
    assert found["coin"]["accuracy_gain"]["gain"] == pytest.approx(gain)


def test_the_temperature_is_that_of_the_pairs_with_rewards() -> None:
    rewards = np.stack([OURS * 10, 0 * OURS])
    fitted = reference_temperature(rewards, np.ones(400))
    assert fitted == pytest.approx(10, rel=0.2)
    holes = np.concatenate([rewards, np.full((2, 5), np.nan)], axis=1)
    assert reference_temperature(holes, np.ones(405)) == fitted
    assert reference_temperature(holes[:, 400:], np.ones(5)) == 1


def test_they_are_in_the_summary_the_table_and_the_picture() -> None:
    own = figures(table(OURS)) | {"reference_models": compare(with_references(OURS * 10, COIN))}
    lines = set_report("heldout", own)
    assert "not shown to differ from “too/sure”" in lines
    assert "uncalibrated); gain over it, both calibrated, " in lines
    rows = results_table({"heldout": own}).splitlines()
    assert [row.split(" | ")[1] for row in rows[-2:]] == ["too/sure", "coin"]
    shown = accuracy_chart({"heldout": own})["data"]["values"]
    assert [row["who"] for row in shown if row["kind"] == REFERENCE] == ["too/sure", "coin"]
    assert results_table({"heldout": figures(table(OURS))}).count("\n") == 2, "no table without them"


def test_the_responses_of_a_row_are_cut_alike_and_refused_prompts_have_none(tmp_path: Path) -> None:
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = strict + tokenizer.chat_template
    tokenizer.save_pretrained(tmp_path / "base")
    encoder = contract_encoder(tmp_path / "base", 60, tmp_path / "tokenizer")
    user, system = Message(role="user", content="word " * 40), Message(role="system", content="be good")
    pairs = [Pair((user,), "a", "b", "s"), Pair((user,), "c", "long " * 9, "s"), Pair((system, user), "a", "b", "s")]
    first, second, refused = encode_rows(encoder, pairs, [{"row": 0}, {"row": 0}, {"row": 1}])
    assert first is not None
    assert second is not None
    assert refused is None
    expected = encoder.encode((user,), ["a", "b", "c", "long " * 9]).ids
    assert [*(first["chosen_ids"], first["rejected_ids"]), *(second["chosen_ids"], second["rejected_ids"])] == expected
    alone = encode_rows(encoder, pairs[:2], [{}, {}])
    assert alone[0] is not None
    assert len(alone[0]["chosen_ids"]) > len(first["chosen_ids"]), "pairs without a row stand alone"
