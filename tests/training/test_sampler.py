import itertools
import random
from collections import Counter
from typing import Any

import pytest

from reward_model.modeling.batching import Layout, distinct_groups, masked_batch, packed_batch, padded_batch
from reward_model.training.sampler import (
    Part,
    TrainingPlan,
    arrange,
    balanced,
    comparison_weights,
    first_fit,
    split_by_responses,
    split_prompts,
)


def rows_of(sizes: list[int]) -> list[dict[str, Any]]:
    """Prompts with so many comparisons each, of few responses."""
    generator = random.Random(0)
    rows = []
    for prompt, size in enumerate(sizes):
        responses = [[prompt, 9, response, *[7] * generator.randrange(20), 2] for response in range(10)]
        pairs = generator.sample(list(itertools.combinations(responses[: size + 1], 2)), size)
        rows += [{"prompt_id": str(prompt), "chosen_ids": one, "rejected_ids": other} for one, other in pairs]
    return rows


SIZES = [1, 2, 3, 4, 1, 1, 5, 8, 9, 20, 2, 2, 3, 1, 6, 7, 4, 4]


def plan_of(rows: list[dict[str, Any]], layout: Layout = packed_batch, **changes: Any) -> TrainingPlan:
    options: dict[str, Any] = {"epochs": 1, "batch_size": 2, "effective_batch": 8, "seed": 3} | changes
    return TrainingPlan(rows, comparison_weights(rows, "comparison"), layout=layout, **options)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("layout", [packed_batch, padded_batch])
def test_every_comparison_is_trained_on_once_an_epoch(layout: Layout, processes: int) -> None:
    rows = rows_of(SIZES)
    plan = plan_of(rows, layout, epochs=2, processes=processes)
    assert Counter(plan.comparisons) == dict.fromkeys(range(len(rows)), 2)
    assert len(plan) == processes * len(plan.steps)
    for number, shares in enumerate(plan.steps):
        assert len({len(share.micro_batches) for share in shares}) == 1, "processes step together"
        comparisons = [each for share in shares for batch in share.micro_batches for each in batch if each < len(rows)]
        assert 0 < len(comparisons) <= 8
        assert {share.weight for share in shares} == {len(comparisons)}
        assert [plan[number * processes + process] for process in range(processes)] == shares


@pytest.mark.parametrize("processes", [1, 2])
def test_unseen_are_the_comparisons_of_the_first_step_of_their_prompt(processes: int) -> None:
    rows = rows_of(SIZES)
    plan = plan_of(rows, epochs=2, processes=processes)
    unseen = plan.unseen_comparisons()
    assert unseen == [number for number in plan.comparisons[: len(rows)] if number in set(unseen)], "in order, once"
    assert {rows[number]["prompt_id"] for number in unseen} == set(map(str, range(len(SIZES))))
    own = Counter(rows[number]["prompt_id"] for number in unseen)
    whole = {str(prompt) for prompt, size in enumerate(SIZES) if size <= 8}
    assert all(own[prompt] == SIZES[int(prompt)] for prompt in whole)
    assert 0 < own["9"] < 20, "the rest of a prompt in parts is trained on in other steps"


def test_a_prompts_comparisons_share_a_step_and_too_many_are_split_evenly() -> None:
    rows = rows_of(SIZES)
    plan = plan_of(rows)
    steps: dict[str, list[int]] = {}
    for number, [share] in enumerate(plan.steps):
        for comparison in (each for batch in share.micro_batches for each in batch):
            steps.setdefault(rows[comparison]["prompt_id"], []).append(number)
    found = {prompt: sorted(Counter(own).values()) for prompt, own in steps.items()}
    expected = {9: [4, 5], 20: [6, 7, 7]}
    assert found == {str(prompt): expected.get(size, [size]) for prompt, size in enumerate(SIZES)}
    assert plan.prompts_in_parts == 2
    assert len(plan.steps) <= 1.1 * len(rows) / 8 + 1, "steps are full"


def test_the_order_is_new_every_epoch_and_the_same_for_the_same_seed() -> None:
    rows = rows_of([1] * 50)
    plan = plan_of(rows, epochs=2)
    first, second = ([frozenset(share.micro_batches[0]) for [share] in plan.steps[part::2]] for part in (0, 1))
    assert set(first) != set(second)
    assert plan_of(rows, epochs=2).steps == plan.steps != plan_of(rows, epochs=2, seed=4).steps
    assert plan_of(rows, epochs=1).steps == plan.steps[:7], "more epochs change nothing before them"


def test_a_fraction_of_an_epoch_is_that_share_of_its_steps() -> None:
    rows = rows_of([1] * 80)
    assert [len(plan_of(rows, epochs=epochs).steps) for epochs in (0.05, 0.5, 1, 1.25, 2)] == [1, 5, 10, 13, 20]


def test_weights_by_prompt_add_up_to_one_each() -> None:
    rows = rows_of([1, 2, 4])
    assert comparison_weights(rows, "prompt") == [1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]
    assert comparison_weights(rows, "comparison") == [1] * 7


def test_a_prompt_with_64_responses_is_computed_in_groups_of_eight() -> None:
    responses = [[1, 100 + number, 2] for number in range(64)]
    rows = [
        {"prompt_id": "a", "chosen_ids": one, "rejected_ids": other}
        for one, other in itertools.combinations(responses, 2)
    ]
    [numbers] = split_prompts(rows, len(rows))
    parts = split_by_responses(rows, numbers)
    assert sorted(itertools.chain(*parts)) == list(range(len(rows)))
    assert max(len(sides(rows, part)) for part in parts) == 8
    assert len(parts) <= 16 * 17 / 2, "one for every two blocks of four"
    for piece in split_prompts(rows, 32):
        assert 31 <= len(piece) <= 32
        assert len(sides(rows, piece)) <= 24


def sides(rows: list[dict[str, Any]], numbers: list[int]) -> set[tuple[int, ...]]:
    return {tuple(rows[number][side]) for number in numbers for side in ("chosen_ids", "rejected_ids")}


def test_first_fit_fills_the_first_bin_that_has_room() -> None:
    assert first_fit([5, 4, 3, 3, 8, 1], 8) == [[0, 2], [1, 3, 5], [4]]
    assert first_fit([1] * 5, 2) == [[0, 1], [2, 3], [4]]


def parts_of(lengths: list[int], comparisons: int = 1) -> list[Part]:
    return [Part([number] * comparisons, 1, length) for number, length in enumerate(lengths)]


def test_micro_batches_have_about_the_same_number_of_tokens() -> None:
    generator = random.Random(0)
    for count in (16, 14, 5, 3, 1):
        parts = parts_of([generator.randrange(20, 512) for _ in range(count)])
        batches = balanced(parts, -(-count // 4), 2048)
        assert sorted(part.numbers for batch in batches for part in batch) == [[number] for number in range(count)]
        tokens = [sum(part.tokens for part in batch) for batch in batches]
        assert max(tokens) <= 2048
        if count == 16:
            assert max(tokens) - min(tokens) < 256
    assert arrange(parts_of([100, 10, 20, 90]), 110, packed_batch) == [[0, 1], [3, 2]]
    assert arrange(parts_of([10, 10, 10, 10, 10]), 110, packed_batch) == [[0, 1, 2, 3, 4]], "short ones together"


def test_micro_batches_with_padding_are_of_one_length() -> None:
    assert arrange(parts_of([100, 10, 20, 90]), 200, padded_batch) == [[1, 2], [3, 0]]
    assert arrange(parts_of([100, 10, 20, 60]), 200, masked_batch) == [[1, 2, 3], [0]]


@pytest.mark.parametrize("layout", [packed_batch, masked_batch, padded_batch])
def test_a_part_with_more_tokens_than_a_micro_batch_stands_alone(layout: Layout) -> None:
    batches = arrange([Part([0] * 7, 1, 90), *parts_of([8, 9, 10, 11, 12])[1:]], 40, layout)
    assert [0] * 7 in batches
    assert sorted(len(batch) for batch in batches if batch != [0] * 7) in ([2, 2], [1, 3])


@pytest.mark.parametrize("layout", [packed_batch, masked_batch, padded_batch])
def test_no_micro_batch_takes_more_tokens_than_comparisons_of_the_longest_would(layout: Layout) -> None:
    rows = rows_of([1] * 30)
    plan = plan_of(rows, layout, batch_size=2)
    tokens = [
        layout(distinct_groups([rows[number] for number in numbers])[0], 0)["input_ids"].numel()
        for [share] in plan.steps
        for numbers in share.micro_batches
    ]
    longest = max(layout(distinct_groups([row])[0], 0)["input_ids"].numel() for row in rows)
    assert max(tokens) <= 2 * longest
    if layout is packed_batch:
        assert len(tokens) < 30 / 2, "short ones are computed together"
