"""Explanations as they are printed."""

import pytest

from reward_model.cli.explanation import print_explanations
from reward_model.scoring.explanation import Explanation, Omission, TokenValue

TOKENS = [
    ("Good", -2.9),
    (" answer", 1.0),
    (":", 0.9),
    ("\n", 0.4),
    ("", 0.5),
    ("猫", 0.2),
    (" \x1b[31m\u202ehidden", 0.1),
]
EXPLANATION = Explanation(
    reward=1.25,
    before=-3.0,
    tokens=[*(TokenValue(*token) for token in TOKENS), TokenValue("<|im_end|>", 1.25)],
    sentences=[Omission("Good answer:\n", 0.25, -1.0, False), Omission("猫 \x1b[31mhidden " * 50, 1.5, 0.25, True)],
    tokens_cut=12,
    cut_at=4,
)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_terminal_it_reads_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    print_explanations([EXPLANATION], [""], "reward")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines) and "\u202e" not in "".join(lines)
    first = lines.index("   value     move  text") + 1
    assert lines[first - 1 - 1] == "reward +1.250"
    assert lines[first].split() == ["+0.400", "+3.400", "Good", "answer:↵"]
    assert lines[first + 1].index("▲") == lines[first].index("answer")
    assert lines[first + 2].split()[:2] == ["+1.250", "+0.850"]
    assert "[… 12 tokens cut …] 猫" in lines[first + 2]
    table = lines[next(place for place, line in enumerate(lines) if line.startswith("reward  change  sentence")) + 1 :]
    assert table[0].split() == ["+0.250", "-1.000", "Good", "answer:"]
    assert table[1].split()[:3] == ["+1.500", "+0.250", "[cut]"]
    assert any(line.rstrip().endswith("…") for line in table)


def test_several_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    print_explanations([EXPLANATION, EXPLANATION], ["A", "B"], "z-score")
    out = capsys.readouterr().out
    assert out.count("A z-score +1.250\n") == out.count("B z-score +1.250\n") == 2


@pytest.mark.parametrize(("no_color", "colored"), [("", True), ("1", False)])
def test_colours_are_for_terminals_unless_NO_COLOR_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], no_color: str, colored: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("NO_COLOR", no_color)
    print_explanations([EXPLANATION], [""], "reward")
    assert ("\x1b[1;32m answer" in capsys.readouterr().out) is colored
