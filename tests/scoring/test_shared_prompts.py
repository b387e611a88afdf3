"""Responses that were given one by one, put together by their prompts."""

import pytest

from reward_model.contract.encoder import Group
from reward_model.scoring.shared_prompts import merge_groups

HEAD = [9, 9]  # what every conversation begins with


def of_prompt(prompt: int, *responses: int) -> list[Group]:
    return [[[*HEAD, *[prompt] * 6, response, 1]] for response in responses]


@pytest.mark.parametrize(
    ("groups", "merged"),
    [
        ([], []),
        (of_prompt(5, 1), [[0]]),
        (of_prompt(5, 1, 2, 3), [[0, 1, 2]]),
        ([*of_prompt(5, 2), *of_prompt(4, 3), *of_prompt(5, 1), *of_prompt(4, 2)], [[3, 1], [2, 0]]),
        ([*of_prompt(3, 1), *of_prompt(4, 1, 2), *of_prompt(5, 1)], [[0], [1, 2], [3]]),
        ([[*of_prompt(5, 1)[0], *of_prompt(5, 2)[0]], *of_prompt(5, 3)], [[0], [1]]),  # a pair stays a pair
        (of_prompt(5, 1, 2, 3, 4, 5), [[0, 1, 2, 3], [4]]),
        (of_prompt(5, 1, 1), [[0, 1]]),
    ],
)
def test_what_shares_a_prompt_is_put_together(groups: list[Group], merged: list[list[int]]) -> None:
    assert merge_groups(groups, most=4) == merged
