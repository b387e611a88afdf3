"""Errors become one line, whatever they say of themselves."""

from pathlib import Path

import pytest

from conftest import ROOT
from reward_model.common.errors import UserError, first_line
from reward_model.data import hub


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  one\n"), "one"),
        (ValueError(), "ValueError"),
        (MemoryError(" \n"), "MemoryError"),
        (RuntimeError(""), "RuntimeError"),
    ],
)
def test_the_first_line_of_an_error_is_never_missing(error: BaseException, expected: str) -> None:
    assert first_line(error) == expected


def test_an_error_of_a_library_without_text_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("datasets.load_dataset", fail)
    with pytest.raises(UserError, match="cannot fetch hub:some/set at main: RuntimeError"):
        hub.download_dataset("some/set", "train", "main", tmp_path / "x.parquet")


def test_no_module_takes_the_first_line_in_a_way_of_its_own() -> None:
    found = [path for path in (ROOT / "stages").rglob("*.py") if "splitlines()[0]" in path.read_text()]
    assert found == [ROOT / "stages/reward_model/common/errors.py"]
