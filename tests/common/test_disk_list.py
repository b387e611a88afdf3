"""A list on disk is read as any other."""

from pathlib import Path
from typing import Any

import pytest

from reward_model.common import disk_list
from reward_model.common.disk_list import DiskList
from reward_model.common.errors import UserError


@pytest.mark.parametrize("in_memory", [100, 2**20])
def test_items_come_back_as_they_were_while_more_are_added(
    in_memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(disk_list, "IN_MEMORY", in_memory)
    items = DiskList[dict[str, Any]]()
    expected = [{"text": "x" * number, "turns": (number, None)} for number in range(50)]
    for number, item in enumerate(expected):
        items.append(item)
        assert items[number // 2] == expected[number // 2]
    items.extend(expected[:2])
    expected += expected[:2]
    assert [*items] == expected
    assert [*reversed(items)] == expected[::-1]
    assert (len(items), items[-1], items[3:50:9]) == (52, expected[-1], expected[3:50:9])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(IndexError):
        items[52]


def test_a_full_disk_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    with Path("/dev/full").open("r+b", buffering=0) as full:
        monkeypatch.setattr(disk_list, "SpooledTemporaryFile", lambda *_, **__: full)
        with pytest.raises(UserError, match="cannot write a temporary file: No space left on device"):
            DiskList[str]().append("text")
