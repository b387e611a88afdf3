import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from reward_model.modeling.batching import Layout, masked_batch, packed_batch, padded_batch
from reward_model.modeling.forward import rewards
from reward_model.training import run as training_run
from reward_model.training.losses import pair_losses
from reward_model.training.rankings import NONE, count_rankings, find_ranking, ranking_losses, set_ranking_sizes
from test_training import (
    encoder_of,
    gradients_of_the_only_step,
    model_with_a_head,
    run,
    token_rows,
    tournament_rows,
)


def closed_form(scores: list[float]) -> float:
    """-log of the probability of an order, as a mean over its choices, spelled out."""
    choices = [math.exp(scores[place]) / sum(map(math.exp, scores[place:])) for place in range(len(scores) - 1)]
    return -sum(map(math.log, choices)) / len(choices)


def test_the_loss_of_rankings_of_different_lengths_is_the_closed_form() -> None:
    scores = torch.tensor([0.3, -1.0, 2.0, 0.5, 700.0], dtype=torch.float64, requires_grad=True)
    rankings = torch.tensor([[2, 0, 1, 3], [1, 3, NONE, NONE], [0, 2, 3, NONE]])
    found = ranking_losses(scores, rankings)
    expected = [closed_form([scores[place].item() for place in own if place != NONE]) for own in rankings.tolist()]
    assert found.tolist() == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda own: ranking_losses(own, rankings), (scores,))
    assert ranking_losses(scores, torch.tensor([[4, 0, 1]]))[0].item() < 1, "large rewards overflow nothing"


def test_of_two_responses_it_is_the_bradley_terry_loss() -> None:
    scores = torch.randn(6, generator=torch.Generator().manual_seed(0))
    found = ranking_losses(scores, torch.tensor([[0, 1], [3, 2], [4, 5]]))
    torch.testing.assert_close(found, pair_losses(scores[[0, 3, 4]], scores[[1, 2, 5]], torch.zeros(3)))


@pytest.mark.parametrize(
    ("comparisons", "ranking"),
    [
        ([("a", "b"), ("a", "c"), ("b", "c")], ["a", "b", "c"]),
        ([("d", "b"), ("a", "b"), ("d", "c"), ("b", "c"), ("a", "c"), ("d", "a")], ["d", "a", "b", "c"]),
        ([("a", "b"), ("b", "c"), ("c", "a")], None),  # a circle
        ([("a", "b"), ("b", "c")], None),  # one is missing
        ([("a", "b"), ("a", "c"), ("b", "c"), ("a", "b")], None),  # one is doubled
        ([("a", "b"), ("b", "a"), ("a", "c")], None),
        ([("a", "b")], None),
        ([], None),
    ],
)
def test_a_ranking_is_all_comparisons_of_an_order(
    comparisons: list[tuple[str, str]], ranking: list[str] | None
) -> None:
    assert find_ranking(comparisons) == ranking


def loss_of_the_step(base: Path, rows: list[dict[str, Any]], sizes: list[int]) -> tuple[Any, float]:
    """Gradients and loss of prompts with so many responses in order, a padded row each, by the closed form."""
    model = model_with_a_head(base)
    losses, start = [], 0
    for size in sizes:
        own = rows[start : start + math.comb(size, 2)]
        start += len(own)
        responses = [own[0]["chosen_ids"], *(row["rejected_ids"] for row in own[: size - 1])]
        scores = rewards(model, **padded_batch([responses], 0))
        terms = [scores[place:].logsumexp(0) - scores[place] for place in range(size - 1)]
        losses.append(torch.stack(terms).mean() * len(own))
    loss = torch.stack(losses).sum() / len(rows)
    loss.backward()
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}, loss.item()


@pytest.mark.parametrize("layout", [packed_batch, masked_batch, padded_batch])
def test_a_steps_gradient_is_that_of_its_rankings_and_of_its_pairs(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, layout: Layout
) -> None:
    sizes = [4, 2, 3]
    rows = tournament_rows(encoder_of(tiny_base), sizes)
    expected, loss_expected = loss_of_the_step(tiny_base, rows, sizes)
    found, loss = gradients_of_the_only_step(
        tiny_base, rows, monkeypatch, layout, loss="plackett_luce", per_device_train_batch_size=len(rows)
    )
    assert loss == pytest.approx(loss_expected, rel=1e-5)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-8, name


def test_whole_rankings_are_told_and_others_are_trained_on_as_pairs(
    tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tournament_rows(encoder_of(tiny_base), [4, 3, 3, 3, 2])
    rows[6]["margin"] = 1.0  # of the second prompt
    rows[9]["preference"] = 0.5  # of the third
    made = [row | {"degenerate": True, "rejected_ids": [9, 9, 2]} for row in rows[-3:-1]]
    result, _ = run(tiny_base, rows + made, loss="plackett_luce")
    assert result.summary["rankings"] == 2
    assert "rankings with one loss: 2, of 9 comparisons; 7 others are trained on as pairs (" in capsys.readouterr().err
    plain, _ = run(tiny_base, rows + made)
    assert plain.summary["rankings"] == 0
    assert plain.summary["loss"] != result.summary["loss"]


def test_a_ranking_in_parts_is_none() -> None:
    responses = [[1, 20 + number, 2] for number in range(4)]
    rows = [
        {"prompt_id": "a", "ranked": True, "ranking_size": 0, "chosen_ids": one, "rejected_ids": other}
        for one, other in itertools.combinations(responses, 2)
    ]
    set_ranking_sizes(rows)
    assert count_rankings(rows, [[0, 1, 2, 3, 4, 5]]) == (1, 6)
    assert count_rankings(rows, [[0, 1, 2], [3, 4, 5]]) == (0, 0), "the last three are all comparisons of three"
    assert count_rankings(rows, [[0, 1], [2, 3], [4, 5]]) == (0, 0)


def test_a_process_with_less_to_do_computes_no_ranking_meanwhile(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of several processes it gets the row that counts for nothing, which repeats a comparison of a ranking."""
    training_plan = training_run.training_plan

    def with_a_filler(pairs: list[dict[str, Any]], *arguments: Any) -> Any:
        plan = training_plan(pairs, *arguments)
        plan.steps[0][0].micro_batches.append([len(pairs)])
        return plan

    monkeypatch.setattr(training_run, "training_plan", with_a_filler)
    result, _ = run(tiny_base, tournament_rows(encoder_of(tiny_base), [4, 3]), loss="plackett_luce")
    assert result.summary["rankings"] == 2
    assert "rankings with one loss: 2, of 9 comparisons\n" in capsys.readouterr().err


def test_less_memory_changes_no_ranking(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After running out of memory, the comparisons of a ranking are still computed together."""
    from reward_model.training import trainer

    rows = tournament_rows(encoder_of(tiny_base), [3, 3]) + token_rows(encoder_of(tiny_base), 4)
    options: Any = {"loss": "plackett_luce", "per_device_train_batch_size": 10, "gradient_accumulation_steps": 1}
    whole, _ = run(tiny_base, rows, **options)
    attempts = iter([True, True])
    collate = trainer.PairTrainer._collate

    def fail_twice(self: Any, numbers: list[int]) -> Any:
        if next(attempts, False):
            raise MemoryError("out of memory")
        return collate(self, numbers)

    monkeypatch.setattr(trainer.PairTrainer, "_collate", fail_twice)
    less, _ = run(tiny_base, rows, **options)
    assert [each["done"] for each in less.summary["step_downs"]] == ["5 pairs at a time", "3 pairs at a time"]
    assert less.summary["loss"] == pytest.approx(whole.summary["loss"], rel=1e-5)
