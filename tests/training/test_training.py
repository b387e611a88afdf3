import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from conftest import default_params, make_pairs
from reward_model.common.errors import UserError
from reward_model.contract.base_tokenizer import contract_encoder
from reward_model.contract.encoder import Encoder
from reward_model.modeling.batching import Layout, masked_batch, packed_batch, padded_batch
from reward_model.modeling.forward import rewards, share_prefixes
from reward_model.modeling.head import reward_head
from reward_model.modeling.model import build_reward_model, save_reward_model
from reward_model.params import TrainParams
from reward_model.training import config as training_config
from reward_model.training import run as training_run
from reward_model.training import trainer as training_trainer
from reward_model.training.losses import PairTotals, centring_losses, pair_losses
from reward_model.training.run import TrainingResult, train
from reward_model.training.sampler import PairCollator
from reward_model.training.trainer import PairTrainer

PARAMS = dataclasses.replace(
    default_params().train,
    device="cpu",
    precision="fp32",
    learning_rate=1e-3,
    head_learning_rate=1e-2,
    per_device_train_batch_size=2,
    gradient_accumulation_steps=4,
    freeze_layers=0,
)


def encoder_of(base: Path) -> Encoder:
    return contract_encoder(base, 96, base.parent / "tokenizer")


def run(
    base: Path,
    rows: list[dict[str, Any]] | None = None,
    validation: Sequence[dict[str, Any]] = (),
    curve_file: Path | None = None,
    **changes: Any,
) -> tuple[TrainingResult, PreTrainedModel]:
    params: TrainParams = dataclasses.replace(PARAMS, **changes)
    encoder = encoder_of(base)
    model = build_reward_model(base, encoder, params.seed)
    rows = rows or token_rows(encoder, 20)
    return train(model, encoder, rows, params, validation=validation, curve_file=curve_file), model


def token_rows(encoder: Encoder, count: int) -> list[dict[str, Any]]:
    rows = []
    for row in make_pairs(count):
        ids = encoder.encode([{"role": "user", "content": row["prompt"]}], [row["chosen"], row["rejected"]]).ids
        rows.append({"prompt_id": row["prompt"], "chosen_ids": ids[0], "rejected_ids": ids[1], "margin": 0.0})
    return rows


def tournament_rows(encoder: Encoder, sizes: list[int]) -> list[dict[str, Any]]:
    """Prompts with so many responses, each compared with each."""
    words = [text for row in make_pairs(60) for text in (row["chosen"], row["rejected"])]
    rows = []
    for number, size in enumerate(sizes):
        name = f"question {number} of several answers?"
        ids = encoder.encode([{"role": "user", "content": name}], words[10 * number : 10 * number + size]).ids
        rows += [
            {"prompt_id": name, "chosen_ids": chosen, "rejected_ids": rejected, "margin": 0.0}
            for chosen, rejected in itertools.combinations(ids, 2)
        ]
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
    changes: list[dict[str, Any]] = [{"label_smoothing": 0.3}, {"center_rewards_coefficient": 0.1}]
    for option in changes:
        with pytest.raises(AssertionError):
            assert_same_weights(run(tiny_base, rows, **option)[1], plain_model, tolerance=1e-5)


def test_a_weight_counts_as_repetitions_and_degenerate_pairs_are_not_counted(tiny_base: Path) -> None:
    rows = token_rows(encoder_of(tiny_base), 4)
    whole: dict[str, Any] = {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 1, "num_train_epochs": 3}
    repeated, by_repetition = run(tiny_base, [*rows, rows[3], rows[3]], **whole)
    one_batch: dict[str, Any] = whole | {"per_device_train_batch_size": 4}
    weighted, by_weight = run(tiny_base, [*rows[:3], rows[3] | {"weight": 3.0, "degenerate": True}], **one_batch)
    assert_same_weights(by_weight, by_repetition, tolerance=1e-5)
    assert (weighted.summary["pairs"], weighted.summary["degenerate"]) == (9, 1)
    assert (repeated.summary["pairs"], repeated.summary["degenerate"]) == (18, 0)
    parts: dict[str, Any] = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "num_train_epochs": 3}
    in_parts = run(tiny_base, [*rows[:3], rows[3] | {"weight": 3.0, "degenerate": True}], **parts)[1]
    assert_same_weights(in_parts, by_weight, tolerance=1e-5)


def test_pair_losses_are_the_formulas() -> None:
    chosen, rejected, margin = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), torch.tensor([0.0, 0.5])
    difference = chosen - rejected - margin
    assert torch.equal(pair_losses(chosen, rejected, margin), -F.logsigmoid(difference))
    smoothed = -0.9 * F.logsigmoid(difference) - 0.1 * F.logsigmoid(-difference)
    torch.testing.assert_close(pair_losses(chosen, rejected, margin, 0.1), smoothed)
    torch.testing.assert_close(centring_losses(chosen, rejected, 0.01), 0.01 * (chosen + rejected) ** 2)
    assert centring_losses(chosen, rejected, None).tolist() == [0, 0]


def test_the_loss_of_a_soft_label_is_the_cross_entropy_with_it() -> None:
    chosen, rejected, margin = torch.tensor([1.0, 0.0, 3.0]), torch.tensor([0.0, 2.0, 1.0]), torch.tensor([0, 0.5, 1.0])
    label, difference = torch.tensor([0.5, 0.8, 1.0]), chosen - rejected - margin
    found = pair_losses(chosen, rejected, margin, preference=label)
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(difference, label, reduction="none"))
    smoothed = 0.9 * label + 0.1 * (1 - label)
    found = pair_losses(chosen, rejected, margin, 0.1, label)
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(difference, smoothed, reduction="none"))


def test_training_on_ties_alone_brings_the_rewards_together_and_on_doubtful_pairs_less_far_apart(
    tiny_base: Path,
) -> None:
    rows = token_rows(encoder_of(tiny_base), 20)
    options: Any = {"num_train_epochs": 6, "head_learning_rate": 0.1}
    margins = [
        run(tiny_base, [row | {"preference": preference} for row in rows], **options)[0].curve[-1]["margin"]
        for preference in (None, 0.7, 0.5)
    ]
    assert margins[0] > margins[1] > 0.3
    assert abs(margins[2]) < 0.1


def test_totals_count_per_pair_and_ties_as_half() -> None:
    totals = PairTotals()
    totals.add(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 0.0, -1.0]), torch.tensor([1.0, 0.9, 0.7]))
    totals.add(torch.tensor([6.0]), torch.tensor([2.0]), torch.tensor([1.0]))
    assert totals.means() == {"loss": 3.0, "accuracy": 2.5 / 4, "margin": 0.5}
    assert totals.ties == 1
    totals.add(torch.tensor([3.0]), torch.tensor([-3.0]), torch.tensor([0.5]))
    assert totals.means() == {"loss": 3.0, "accuracy": 2.5 / 4, "margin": -0.2}, "a tie has no side to get right"


def gradients_of_the_only_step(
    base: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, layout: Layout, **changes: Any
) -> tuple[dict[str, torch.Tensor], float]:
    """The gradients of a training of one step, from a model whose head is not zero, and the loss that it tells."""
    found: dict[str, torch.Tensor] = {}

    def keep(self: PairTrainer) -> None:
        parameters = cast(torch.nn.Module, self.model).named_parameters()
        found.update({name: each.grad.clone() for name, each in parameters if each.grad is not None})
        end_step(self)

    with monkeypatch.context() as patched:
        end_step = PairTrainer._end_step
        patched.setattr(PairTrainer, "_end_step", keep)
        device = torch.device("cuda" if layout is masked_batch else "cpu")
        choose = padded_layout if layout is padded_batch else lambda model, _: share_prefixes(model, device)
        patched.setattr(training_run, "share_prefixes", choose)
        model = model_with_a_head(base)
        params = dataclasses.replace(PARAMS, gradient_accumulation_steps=1, weight_decay=1e-9, **changes)
        loss = train(model, encoder_of(base), rows, params).summary["loss"]
    return found, loss


def model_with_a_head(base: Path) -> PreTrainedModel:
    model = build_reward_model(base, encoder_of(base), PARAMS.seed)
    torch.manual_seed(1)
    torch.nn.init.normal_(reward_head(model).weight)
    return model


def padded_layout(model: PreTrainedModel, device: torch.device) -> Layout:
    return padded_batch


def one_by_one(base: Path, rows: list[dict[str, Any]], weights: list[float]) -> tuple[dict[str, torch.Tensor], float]:
    """The gradients and the mean loss of comparisons computed each alone, as two padded rows."""
    model = model_with_a_head(base)
    losses = []
    for row, weight in zip(rows, weights, strict=True):
        chosen, rejected = rewards(model, **padded_batch([[row["chosen_ids"], row["rejected_ids"]]], 0)).unbind(0)
        loss = -F.logsigmoid(chosen - rejected)
        (loss * weight / sum(weights)).backward()
        losses.append(loss.item())
    gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    return gradients, sum(losses) / len(losses)


@pytest.mark.parametrize("weigh", ["comparison", "prompt"])
@pytest.mark.parametrize("layout", [packed_batch, masked_batch, padded_batch])
def test_a_steps_gradient_is_that_of_its_comparisons_computed_one_by_one(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, layout: Layout, weigh: Any
) -> None:
    """Prompts with 4, 10, 2 and 3 responses in one effective batch, that of 10 in several groups."""
    rows = tournament_rows(encoder_of(tiny_base), [4, 10, 2, 3])
    prompts = [row["prompt_id"] for row in rows]
    weights = [1.0 if weigh == "comparison" else 1 / prompts.count(prompt) for prompt in prompts]
    expected, mean_loss = one_by_one(tiny_base, rows, weights)
    found, loss = gradients_of_the_only_step(
        tiny_base,
        rows,
        monkeypatch,
        layout,
        comparison_weight=weigh,
        per_device_train_batch_size=len(rows),
    )
    assert loss == pytest.approx(mean_loss, rel=1e-5), "the loss that is reported is that of each comparison alike"
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-8, name


def test_micro_batches_change_no_gradient(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tournament_rows(encoder_of(tiny_base), [3, 3, 2, 4])
    expected, _ = one_by_one(tiny_base, rows, [1.0] * len(rows))
    monkeypatch.setattr(training_config, "effective_batch_size", lambda _: len(rows))
    for size in (1, 3, 5):
        found, _ = gradients_of_the_only_step(
            tiny_base, rows, monkeypatch, packed_batch, per_device_train_batch_size=size
        )
        for name, gradient in expected.items():
            assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-8, name


def test_each_response_is_computed_once_where_its_prompt_fits(tiny_base: Path) -> None:
    rows = tournament_rows(encoder_of(tiny_base), [8, 3])
    collate = PairCollator(0, packed_batch, torch.arange(1000))
    batch = collate([row | {"number": n, "weight": 1.0, "preference": 1.0} for n, row in enumerate(rows)])
    assert batch["group_sizes"].tolist() == [8, 3]
    assert len(batch["ends"]) == 11
    assert len(batch["chosen"]) == len(batch["rejected"]) == 28 + 3


def swapped(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pairs on which a training that goes well becomes ever worse."""
    return [row | {"chosen_ids": row["rejected_ids"], "rejected_ids": row["chosen_ids"]} for row in rows]


def test_the_curve_has_log_loss_and_accuracy_on_the_validation_pairs(tiny_base: Path, tmp_path: Path) -> None:
    encoder = encoder_of(tiny_base)
    rows = token_rows(encoder, 40)
    validation = [*tournament_rows(encoder, [3, 4]), *rows[20:]]
    live = tmp_path / "curve.json"
    result, model = run(tiny_base, rows[:20], validation, live, eval_steps=2, eval_pairs=25, num_train_epochs=3)
    assert json.loads(live.read_text()) == result.curve
    assert [point["step"] for point in result.curve if point["eval_loss"] is not None] == [2, 4, 6, 8, 9]
    margins = [
        rewards(model, **padded_batch([[row["chosen_ids"], row["rejected_ids"]]], 0)).detach()
        for row in validation[:25]
    ]
    differences = torch.stack(margins) @ torch.tensor([1.0, -1.0])
    assert result.summary["kept_step"] == 9
    assert result.summary["eval_loss"] == result.curve[-1]["eval_loss"]
    assert result.summary["eval_loss"] == pytest.approx(-F.logsigmoid(differences).mean().item(), abs=1e-5)
    assert result.summary["eval_accuracy"] == pytest.approx((differences > 0).float().mean().item())


@pytest.mark.parametrize("lora", [False, True])
def test_the_best_weights_are_kept_and_training_stops_when_it_finds_no_better(
    tiny_base: Path, capsys: pytest.CaptureFixture[str], lora: bool
) -> None:
    rows = token_rows(encoder_of(tiny_base), 40)
    options: Any = {"eval_steps": 2, "num_train_epochs": 3, "lora": dataclasses.replace(PARAMS.lora, enabled=lora)}
    best = run(tiny_base, rows[:20], swapped(rows[20:]), **options, keep="best")
    assert best[0].summary["kept_step"] == 2
    assert best[0].summary["steps"] == 9
    losses = [point["eval_loss"] for point in best[0].curve if point["eval_loss"] is not None]
    assert min(losses) == losses[0] == best[0].summary["eval_loss"] < losses[-1]
    stopped = run(tiny_base, rows[:20], swapped(rows[20:]), **options, keep="best", early_stopping_patience=2)
    assert stopped[0].summary["steps"] == 6
    assert stopped[0].summary["stopped_early"]
    assert "no better validation loss since step 2: stopped after step 6" in capsys.readouterr().err
    assert_same_weights(stopped[1], best[1])
    last = run(tiny_base, rows[:20], swapped(rows[20:]), **options, keep="last")
    assert last[0].summary["kept_step"] == 9
    assert_same_weights(last[1], run(tiny_base, rows[:20], **options)[1], tolerance=1e-6)
    with pytest.raises(AssertionError):
        assert_same_weights(last[1], best[1], tolerance=1e-4)


def test_late_pairs_are_judged_before_any_of_their_prompt_is_trained_on(tiny_base: Path) -> None:
    """20 pairs in steps of 8, 8 and 4: the margins of the last four are those of a training of two steps."""
    rows = token_rows(encoder_of(tiny_base), 20)
    constant: Any = {"lr_scheduler_type": "constant", "warmup_ratio": 0.0}
    whole, _ = run(tiny_base, rows, **constant)
    _, two_steps = run(tiny_base, rows, **constant, num_train_epochs=0.6)
    assert len(whole.unseen) == 10
    for number, margin in list(whole.unseen.items())[-4:]:
        with torch.no_grad():
            sides = [rows[number]["chosen_ids"], rows[number]["rejected_ids"]]
            chosen, rejected = rewards(two_steps, **padded_batch([sides], 0)).tolist()
        assert margin == pytest.approx(chosen - rejected, abs=1e-5)
        assert margin != 0
    assert run(tiny_base, rows, num_train_epochs=2)[0].unseen == {}, "seen in the first epoch"


@pytest.mark.parametrize(
    ("eval_steps", "steps", "interval"), [(0.25, 60, 15), (0.25, 61, 16), (0.3, 2, 1), (1, 5, 1), (7.0, 5, 7)]
)
def test_a_share_of_the_run_is_that_many_evaluations_and_none_just_before_the_last(
    eval_steps: float, steps: int, interval: int
) -> None:
    assert training_config.evaluation_interval(eval_steps, steps) == interval


def test_few_validation_prompts_choose_nothing(tiny_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = token_rows(encoder_of(tiny_base), 40)
    result, _ = run(tiny_base, rows[:20], swapped(rows[31:]), eval_steps=0.5, early_stopping_patience=1)
    assert result.summary["kept_step"] == result.summary["steps"] == 3
    assert "eval_loss" in result.summary
    few = "9 validation prompts are too few to choose by, 10 are needed: the last weights are kept"
    assert f"{few}, and training does not stop early\n" in capsys.readouterr().err
    run(tiny_base, rows[:20], swapped(rows[31:]), eval_steps=0.5, keep="best")
    assert f"{few}\n" in capsys.readouterr().err
    run(tiny_base, rows[:20], swapped(rows[31:]), eval_steps=0.5)
    assert "choose" not in capsys.readouterr().err


def test_evaluations_at_the_end_alone_choose_nothing(tiny_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = token_rows(encoder_of(tiny_base), 40)
    result, _ = run(tiny_base, rows[:20], swapped(rows[20:]), eval_steps=3, keep="best", early_stopping_patience=1)
    assert result.summary["kept_step"] == result.summary["steps"] == 3
    line = (
        "train.eval_steps: 3 leaves no evaluation to choose by before step 3, the last: the last weights are kept, and"
    )
    assert f"{line} training does not stop early\n" in capsys.readouterr().err
    run(tiny_base, rows[:20], swapped(rows[20:]), eval_steps=2, keep="best")
    assert "choose" not in capsys.readouterr().err


@pytest.mark.parametrize("changes", [{}, {"gradient_checkpointing": True}, {"lora": True}])
def test_frozen_layers_stay_as_they_are_and_backward_stops_above_them(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    if changes.get("lora"):
        changes = {"lora": dataclasses.replace(PARAMS.lora, enabled=True)}
    before = build_reward_model(tiny_base, encoder_of(tiny_base), PARAMS.seed)
    _, after = run(tiny_base, freeze_layers=1, **changes)
    changed = {name for name, weight in before.state_dict().items() if not weight.equal(after.state_dict()[name])}
    assert not [name for name in changed if name.startswith(("model.embed_tokens", "model.layers.0."))]
    assert "score.weight" in changed
    assert [name for name in changed if name.startswith("model.layers.1.")]
    assert all(weight.requires_grad for weight in after.parameters())
    needed: list[bool] = []
    with monkeypatch.context() as patched:
        original = PairTrainer.compute_loss

        def compute_loss(self: PairTrainer, model: Any, inputs: Any, *rest: Any, **options: Any) -> torch.Tensor:
            layer = cast(torch.nn.Module, self.model).get_submodule("model.layers.0")
            handle = layer.register_forward_hook(lambda *found: needed.append(found[-1].requires_grad))
            loss = original(self, model, inputs, *rest, **options)
            handle.remove()
            return loss

        patched.setattr(PairTrainer, "compute_loss", compute_loss)
        run(tiny_base, freeze_layers=1)
    assert needed
    assert not any(needed)


@pytest.mark.parametrize(("wanted", "count"), [(0, 0), (0.4, 0), (0.5, 1), (0.99, 1), (2, 2)])
def test_a_share_of_the_layers_is_frozen_rounded_down(tiny_base: Path, wanted: float, count: int) -> None:
    before = build_reward_model(tiny_base, encoder_of(tiny_base), PARAMS.seed).state_dict()
    result, model = run(tiny_base, freeze_layers=wanted)
    assert result.summary["frozen_layers"] == count
    after = model.state_dict()
    names = [name for name in before if name.startswith("model.layers.")]
    moved = {int(name.split(".")[2]) for name in names if not before[name].equal(after[name])}
    assert moved == {number for number in range(2) if number >= count}
    assert before["model.embed_tokens.weight"].equal(after["model.embed_tokens.weight"]) == (count > 0)


def test_more_frozen_layers_than_there_are_is_one_error(tiny_base: Path) -> None:
    fault = r"^train\.freeze_layers is 3, but the number of layers kept \(train\.layers\) is"
    with pytest.raises(UserError, match=rf"{fault} 2$"):
        run(tiny_base, freeze_layers=3)
    encoder = encoder_of(tiny_base)
    cut, params = build_reward_model(tiny_base, encoder, 0, 1), dataclasses.replace(PARAMS, freeze_layers=3)
    with pytest.raises(UserError, match=rf"{fault} 1$"):
        train(cut, encoder, token_rows(encoder, 20), params)


@pytest.mark.parametrize(
    "changes",
    [
        {"optim": "adafactor", "lr_scheduler_type": "polynomial"},
        {"optim": "sgd", "lr_scheduler_type": "cosine"},
        {"optim": "adagrad", "lr_scheduler_type": "cosine_with_restarts"},
        {"optim": "rmsprop", "lr_scheduler_type": "inverse_sqrt"},
        {"lr_scheduler_type": "reduce_lr_on_plateau"},
        {"lr_scheduler_type": "greedy"},
    ],
)
def test_other_optimizers_and_schedules_train(tiny_base: Path, changes: dict[str, Any]) -> None:
    rows = token_rows(encoder_of(tiny_base), 40)
    _, model = run(tiny_base, rows[:20], rows[20:], keep="last", **changes)
    with pytest.raises(AssertionError):
        assert_same_weights(model, run(tiny_base, rows[:20])[1], tolerance=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"report_to": ["wandb"]}, r"train\.report_to: not installed: wandb \(pip install"),
        ({"optim": "adamw_bnb_8bit"}, r"train\.optim: adamw_bnb_8bit cannot be had: "),
        ({"lr_scheduler_type": "polynomial", "learning_rate": 1e-8}, r"lr_scheduler_type: polynomial cannot be had: "),
        ({"loss": "plackett_luce", "label_smoothing": 0.1}, r"label_smoothing is for train\.loss: bradley_terry"),
        ({"lr_scheduler_type": "greedy", "eval_steps": None}, r"greedy goes by evaluations: set train\.eval_steps"),
        ({"keep": "best", "eval_steps": None}, r"train\.keep: best goes by evaluations: set train\.eval_steps"),
        ({"early_stopping_patience": 1, "eval_steps": None}, r"early_stopping_patience goes by evaluations"),
    ],
)
def test_what_cannot_be_had_is_one_error(tiny_base: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(tiny_base, **changes)


def test_prompts_in_parts_are_told_in_one_line(tiny_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = encoder_of(tiny_base)
    run(tiny_base, tournament_rows(encoder, [5, 2]))
    assert "prompts with more than 8 comparisons or 8 responses, trained in parts: 1\n" in capsys.readouterr().err
    run(tiny_base, tournament_rows(encoder, [4, 2]))
    assert "in parts" not in capsys.readouterr().err


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


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_cure(tiny_base: Path) -> None:
    with pytest.raises(UserError, match=r"not finite in step \d+ \(pairs \d+.*\): lower train\.learning_rate"):
        run(tiny_base, learning_rate=1e30, num_train_epochs=3)


def test_a_gradient_that_is_not_finite_stops_before_its_step_and_the_curve(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the loss is finite, as where a square root of zero is differentiated."""
    original = training_trainer.pair_losses
    monkeypatch.setattr(training_trainer, "pair_losses", lambda *given: original(*given) + (0 * given[0]).sqrt())
    curve = tmp_path / "curve.json"
    with pytest.raises(UserError, match=r"^the gradient is not finite in step 1: lower train\.learning_rate, or set"):
        run(tiny_base, curve_file=curve)
    assert not curve.exists()


def test_a_loss_on_validation_pairs_that_is_not_finite_stops_before_the_curve(tiny_base: Path, tmp_path: Path) -> None:
    """The only step has broken the weights."""
    rows, curve = token_rows(encoder_of(tiny_base), 30), tmp_path / "curve.json"
    with pytest.raises(UserError, match=r"^the loss on validation pairs is not finite after step 1: lower train\."):
        run(tiny_base, rows[:8], rows[8:], curve, head_learning_rate=3e38, lr_scheduler_type="constant")
    assert "NaN" not in curve.read_text()


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
