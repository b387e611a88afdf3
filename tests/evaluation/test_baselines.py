"""The rules that a reward model must beat learn what they can see, and nothing else."""

import numpy as np
import pytest

from reward_model.common.messages import Message
from reward_model.data.pairs import Pair
from reward_model.data.response_style import find_traits
from reward_model.evaluation.baselines import TextBaseline

RNG = np.random.default_rng(0)


def pair(number: int, chosen: str, rejected: str) -> Pair:
    return Pair((Message(role="user", content=f"question {number}"),), chosen, rejected, "test")


def filler(length: int) -> str:
    return " ".join(RNG.choice(["red", "green", "blue", "one", "two"], length))


def accuracy(margins: np.ndarray) -> float:
    return float((margins > 0).mean())


def test_words_are_learned_and_swapping_the_responses_swaps_the_sign() -> None:
    pairs = [pair(n, f"{filler(9)} thanks", f"{filler(9)} sorry") for n in range(60)]
    baseline = TextBaseline(pairs[:40])
    margins = baseline.margins(pairs[40:])
    assert accuracy(margins) == 1
    swapped = [pair(n, own.rejected, own.chosen) for n, own in enumerate(pairs[40:])]
    assert baseline.margins(swapped) == pytest.approx(-margins)


def test_length_is_learned() -> None:
    pairs = [pair(n, filler(30), filler(10)) for n in range(60)]
    assert accuracy(TextBaseline(pairs[:40]).margins(pairs[40:])) == 1


def test_where_there_is_nothing_to_learn_nothing_is() -> None:
    pairs = [pair(n, filler(10), filler(10)) for n in range(400)]
    assert 0.4 < accuracy(TextBaseline(pairs[:200]).margins(pairs[200:])) < 0.6


@pytest.mark.parametrize("count", [1, 3])
def test_answers_of_a_letter_or_of_words_that_occur_once_are_no_error(count: int) -> None:
    letters = [pair(n, "A", "BB") for n in range(count)]
    once = [pair(n, f"first{n}", f"second word{n}") for n in range(count)]
    for pairs in (letters, once):
        assert np.isfinite(TextBaseline(pairs).margins(pairs)).all()


def test_one_prompt_alone_is_too_few_for_cross_validation_and_is_fitted_all_the_same() -> None:
    pairs = [pair(0, f"good {n}", "bad") for n in range(4)]
    assert accuracy(TextBaseline(pairs).margins(pairs)) == 1


@pytest.mark.parametrize(
    ("response", "traits"),
    [
        ("- one\n- two", {"lists"}),
        ("First:\n1. one\nmore on it\n2. two", {"lists"}),
        ("- one dash only", set()),
        ("It costs 1. 5 euros", set()),
        ("# Title\ntext", {"markdown"}),
        ("some **bold** words", {"markdown"}),
        ("2 ** 3 ** 4", set()),
        ("```\ncode\n```", {"markdown"}),
        ("I'm sorry, but no.", {"refusals"}),
        ("I can’t help with that.", {"refusals"}),
        ("As an AI language model, I have no opinion.", {"refusals"}),
        ("Cats cannot help it.", set()),
        ("x " * 150 + "I'm sorry", set()),
        ("", set()),
    ],
)
def test_traits_of_a_response(response: str, traits: set[str]) -> None:
    assert {name for name, has in find_traits(response).items() if has} == traits
