"""Work shared among processes."""

import os
from collections.abc import Iterator

import pytest

from reward_model.common.errors import UserError
from reward_model.common.processes import AHEAD, map_in_processes


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_order_and_items_are_read_as_they_are_needed(processes: int) -> None:
    read = []

    def items() -> Iterator[str]:
        for number in range(40):
            read.append(number)
            yield "x" * number

    results = map_in_processes(len, items(), processes)
    assert next(results) == 0
    assert len(read) <= AHEAD * processes
    assert list(results) == list(range(1, 40))


def test_an_error_comes_through_and_a_killed_process_is_told_of() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(map_in_processes(int, ["1", "x"], 2))
    with pytest.raises(UserError, match="a process was killed"):
        list(map_in_processes(os._exit, [9], 2))
