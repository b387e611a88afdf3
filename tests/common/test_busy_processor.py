import os
import subprocess
import sys

import pytest

from conftest import ROOT
from reward_model.common.busy_processor import is_busy


@pytest.mark.parametrize(
    ("busy_cores", "cores", "busy"),
    [(0.1, 2, False), (1.0, 2, True), (0.5, 4, True), (0.9, 8, True), (2.0, 64, False), (30.0, 64, True)],
)
def test_one_busy_core_of_a_few_disturbs_and_one_of_many_does_not(busy_cores: float, cores: int, busy: bool) -> None:
    assert is_busy(busy_cores, cores) == busy


@pytest.mark.parametrize(
    ("share", "own", "expected"),
    [
        (100.0, {}, "passive None"),
        (0.0, {}, "None None"),
        (100.0, {"OMP_WAIT_POLICY": "active"}, "active None"),
        (100.0, {"GOMP_SPINCOUNT": "7"}, "None 7"),
    ],
)
def test_threads_sleep_beside_a_busy_process_unless_the_user_has_said_how_they_wait(
    share: float, own: dict[str, str], expected: str
) -> None:
    script = (
        f"import os, psutil; psutil.cpu_percent = lambda seconds: {share}\n"
        "import reward_model.common.busy_processor\n"
        "print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"
    )
    kept = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=kept | own | {"PYTHONPATH": str(ROOT / "stages")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == expected
