"""Small tables of rewards, on a terminal and elsewhere."""

import io
import re

import pytest

from reward_model.cli.display import comparison_report, ranking_report
from reward_model.evaluation.calibration import Calibration
from reward_model.scoring.scorer import Comparison, RankedResponse

CALIBRATION = Calibration(pairs=214, training_pairs=86, noise_margin=0.4)
RESPONSES = ("Boil water. " * 50, "猫です\x1b[31m\u202e" * 50)
NOISE = Comparison(reward_a=1.25, reward_b=1.5, margin=-0.25, preferred="b", probability_a=0.45, within_noise=True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def report() -> str:
    ranked = [RankedResponse(index, text, 1.0, 0.5, True) for index, text in enumerate(RESPONSES)]
    return "\n".join([comparison_report(NOISE, RESPONSES, CALIBRATION), ranking_report(ranked, CALIBRATION)])


def columns(line: str) -> int:
    return len(line) + len(re.findall("[猫です]", line))


def test_no_text_widens_or_colours_the_table() -> None:
    lines = report().splitlines()
    assert "\x1b" not in "".join(lines) and "\u202e" not in "".join(lines)
    assert max(map(columns, (*lines[:3], *lines[4:7]))) == 80
    assert lines[2].startswith("B    +1.500  猫です␛[31m") and lines[2].endswith("…")
    assert [line.split()[2] for line in lines[5:7]] == ["-", "50%"], "the best is compared with nothing"


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_a_terminal_gets_colours_and_lines_that_fit(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], coloured: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout", Terminal())
    found = report()
    plain = re.sub(r"\x1b\[\d+m", "", found)
    assert (found != plain) is coloured
    assert ("\x1b[32mB    +1.500\x1b[0m" in found) is coloured
    assert max(map(columns, plain.splitlines())) <= 80
    noise = "of 300 pairs new to the model, those with margins up to 0.40, taken together, were not shown to be ranked"
    assert noise in " ".join(plain.split())
