import dataclasses
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from conftest import default_params, make_pairs
from reward_model.common.errors import UserError
from reward_model.contract.base_tokenizer import contract_encoder
from reward_model.contract.encoder import Encoder
from reward_model.modeling.model import build_reward_model, save_reward_model
from reward_model.params import TrainParams
from reward_model.training.losses import PairTotals, pair_losses
from reward_model.training.run import TrainingResult, train
from reward_model.training.sampler import EffectiveBatchSampler, balanced

PARAMS = dataclasses.replace(
    default_params().train, device="cpu", precision="fp32", learning_rate=1e-3, head_learning_rate=1e-2
)


def encoder_of(base: Path) -> Encoder:
    return contract_encoder(base, 96, base.parent / "tokenizer")


def run(base: Path, rows: list[dict[str, Any]] | None = None, **changes: Any) -> tuple[TrainingResult, PreTrainedModel]:
    params: TrainParams = dataclasses.replace(PARAMS, **changes)
    encoder = encoder_of(base)
    model = build_reward_model(base, encoder, params.seed)
    return train(model, encoder, rows or token_rows(encoder, 20), params), model


def token_rows(encoder: Encoder, count: int) -> list[dict[str, Any]]:
    rows = []
    for row in make_pairs(count):
        ids = encoder.encode([{"role": "user", "content": row["prompt"]}], [row["chosen"], row["rejected"]]).ids
        rows.append({"chosen_ids": ids[0], "rejected_ids": ids[1], "margin": 0.0})
    return rows


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module, tolerance: float = 0.0) -> None:
    for (name, a), (_, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")


def test_training_learns_what_the_pairs_teach(tiny_base: Path) -> None:
    encoder = encoder_of(tiny_base)
    result, _ = run(tiny_base, token_rows(encoder, 40), num_train_epochs=6, head_learning_rate=0.1)
    assert result.curve[-1]["accuracy"] > 0.9
    assert result.curve[-1]["loss"] < 0.5 < result.curve[0]["loss"]
    assert result.summary["pairs"] == 240
    assert result.summary["layout"] == "packed"


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tiny_base: Path) -> None:
    first, second, other = run(tiny_base)[1], run(tiny_base)[1], run(tiny_base, seed=1)[1]
    assert_same_weights(first, second)
    with pytest.raises(AssertionError):
        assert_same_weights(first, other)


def test_the_step_is_the_same_however_the_effective_batch_is_divided(tiny_base: Path) -> None:
    """Also when the last effective batch is not full: 20 pairs in steps of 8, 8 and 4."""
    whole = run(tiny_base, per_device_train_batch_size=8, gradient_accumulation_steps=1)
    parts = run(tiny_base, per_device_train_batch_size=3, gradient_accumulation_steps=3)[0]
    assert parts.summary["effective_batch"] == 9
    for size, accumulation in ((1, 8), (2, 4), (4, 2)):
        result, model = run(tiny_base, per_device_train_batch_size=size, gradient_accumulation_steps=accumulation)
        assert result.summary["loss"] == pytest.approx(whole[0].summary["loss"], abs=1e-5)
        assert_same_weights(model, whole[1], tolerance=2e-4)


def test_gradient_checkpointing_changes_no_result(tiny_base: Path) -> None:
    plain, checkpointed = run(tiny_base), run(tiny_base, gradient_checkpointing=True, torch_empty_cache_steps=1)
    assert_same_weights(plain[1], checkpointed[1], tolerance=1e-5)


def test_bf16_computes_in_bf16_and_keeps_float32_weights(tiny_base: Path) -> None:
    result, model = run(tiny_base, precision="bf16")
    assert result.summary["precision"] == "bf16"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    with pytest.raises(AssertionError):
        assert_same_weights(model, run(tiny_base)[1])


def test_margins_label_smoothing_and_centring_change_the_training(tiny_base: Path) -> None:
    encoder = encoder_of(tiny_base)
    rows = token_rows(encoder, 20)
    with_margin = run(tiny_base, [row | {"margin": 2.0} for row in rows])[0].summary["loss"]
    plain = run(tiny_base, rows)[0].summary["loss"]
    assert with_margin > plain + 0.5
    plain_model = run(tiny_base, rows)[1]
    for option in ({"label_smoothing": 0.3}, {"center_rewards_coefficient": 0.1}):
        with pytest.raises(AssertionError):
            assert_same_weights(run(tiny_base, rows, **option)[1], plain_model, tolerance=1e-5)


def test_pair_losses_are_the_formulas() -> None:
    chosen, rejected, margin = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), torch.tensor([0.0, 0.5])
    difference = chosen - rejected - margin
    assert torch.equal(pair_losses(chosen, rejected, margin), -F.logsigmoid(difference))
    smoothed = -0.9 * F.logsigmoid(difference) - 0.1 * F.logsigmoid(-difference)
    torch.testing.assert_close(pair_losses(chosen, rejected, margin, 0.1), smoothed)
    centred = -F.logsigmoid(difference) + 0.01 * (chosen + rejected) ** 2
    torch.testing.assert_close(pair_losses(chosen, rejected, margin, 0.0, 0.01), centred)


def test_totals_count_per_pair_and_ties_as_half() -> None:
    totals = PairTotals()
    totals.add(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 0.0, -1.0]))
    totals.add(torch.tensor([6.0]), torch.tensor([2.0]))
    assert totals.means() == {"loss": 3.0, "accuracy": 2.5 / 4, "margin": 0.5}
    assert totals.ties == 1


def test_the_order_is_new_every_epoch_and_sorted_only_within_effective_batches() -> None:
    lengths = [n * 37 % 101 for n in range(50)]
    sampler = EffectiveBatchSampler(lengths, 8, seed=3, arrange=partial(sorted, key=lambda number: lengths[number]))
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == sorted(second) == list(range(50))
    assert {frozenset(first[i : i + 8]) for i in range(0, 50, 8)} != {
        frozenset(second[i : i + 8]) for i in range(0, 50, 8)
    }
    for start in range(0, 50, 8):
        batch = [lengths[number] for number in first[start : start + 8]]
        assert batch == sorted(batch)


def test_micro_batches_of_an_effective_batch_have_about_the_same_number_of_tokens() -> None:
    generator = random.Random(0)
    for count in (16, 14, 5, 3, 1):
        lengths = [generator.randrange(20, 512) for _ in range(40)]
        numbers = generator.sample(range(40), count)
        order = balanced(numbers, lengths, 4)
        assert sorted(order) == sorted(numbers)
        tokens = [sum(lengths[number] for number in order[start : start + 4]) for start in range(0, count, 4)]
        if count == 16:
            assert max(tokens) - min(tokens) < 256
    assert balanced([0, 1, 2, 3], [100, 10, 20, 90], 2) == [0, 1, 3, 2]


def test_embeddings_of_tokens_that_do_not_occur_are_left_alone_and_the_others_trained(tiny_base: Path) -> None:
    encoder = encoder_of(tiny_base)
    rows = token_rows(encoder, 20)
    for row in rows:  # so that whole responses are missing in the rows that train
        row["chosen_ids"] = row["chosen_ids"][:12] + row["chosen_ids"][-1:]
    seen = sorted({number for row in rows for key in ("chosen_ids", "rejected_ids") for number in row[key]})
    before = build_reward_model(tiny_base, encoder, PARAMS.seed)
    unseen = sorted(set(range(before.config.vocab_size)) - set(seen))
    small, whole = run(tiny_base, rows)[1], run(tiny_base, rows, weight_decay=1e-12)[1]  # decay keeps all of them
    assert_same_weights(small, whole, tolerance=1e-5)
    old, new = (model.get_parameter("model.embed_tokens.weight").detach() for model in (before, small))
    assert unseen and torch.equal(old[unseen], new[unseen])
    assert (old[seen] != new[seen]).any(dim=1).float().mean() > 0.5  # those of a common beginning may cancel out


def test_the_trainer_moves_on_to_a_new_order_each_epoch(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs: list[int] = []
    set_epoch = EffectiveBatchSampler.set_epoch
    monkeypatch.setattr(
        EffectiveBatchSampler, "set_epoch", lambda self, epoch: (epochs.append(epoch), set_epoch(self, epoch))[1]
    )
    run(tiny_base, num_train_epochs=2)
    assert {0, 1} <= set(epochs)


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_cure(tiny_base: Path) -> None:
    with pytest.raises(UserError, match=r"not finite in step \d+ \(pairs \d+.*\): lower train\.learning_rate"):
        run(tiny_base, learning_rate=1e30, num_train_epochs=3)


def test_a_model_that_the_last_step_broke_is_not_saved(tiny_base: Path, tmp_path: Path) -> None:
    _, model = run(tiny_base, num_train_epochs=1)
    save_reward_model(model, encoder_of(tiny_base), tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    with torch.no_grad():
        next(model.parameters())[0] = torch.inf
    with pytest.raises(UserError, match=r"not finite after the last step: lower train\.learning_rate"):
        save_reward_model(model, encoder_of(tiny_base), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_device_that_is_not_there_is_one_error(tiny_base: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(UserError, match=r"the device cuda is not on this machine"):
        run(tiny_base, device="cuda")
