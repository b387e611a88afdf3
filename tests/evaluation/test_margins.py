import numpy as np
import pytest

from reward_model.evaluation.margins import of_one_kind


@pytest.mark.parametrize(
    ("labels", "others", "expected"),
    [
        ([1, 0, 1], [1, 0.7, 0, 0.5], [True, False, True, False]),
        ([1, 0.8], [1, 0.7, 0.5], [True, True, True]),
        ([1, 0.8], [1, 0, 1], [False, False, False]),
        ([1], [], []),
    ],
)
def test_labels_that_are_shares_and_certain_ones_are_not_mixed(
    labels: list[float], others: list[float], expected: list[bool]
) -> None:
    assert of_one_kind(np.array(labels, float), np.array(others, float)).tolist() == expected
