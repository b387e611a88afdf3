"""The interactive session: with lines piped in, and in a terminal."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Project
from hub_stand_in import hub_environment, serve_hub
from reward_model import RewardModelManager
from reward_model.cli.interactive import InteractiveSession


@pytest.fixture(scope="module")
def manager(trained: Project) -> RewardModelManager:
    manager = RewardModelManager(device="cpu")
    manager.load_trained_model(trained.folder / "models/export")
    return manager


def typed(*lines: str, end: type[BaseException] = EOFError) -> Callable[[str], str]:
    waiting: Iterator[str] = iter(lines)

    def ask(label: str) -> str:
        for line in waiting:
            return line
        raise end

    return ask


def loader(manager: RewardModelManager) -> Callable[[str], RewardModelManager]:
    """Gives `manager` as the model to begin with, and loads others."""

    def load(model: str) -> RewardModelManager:
        if model == "models/export":
            return manager
        other = RewardModelManager(device="cpu")
        other.load_trained_model(model)
        return other

    return load


def session(
    manager: RewardModelManager, capsys: pytest.CaptureFixture[str], *lines: str, end: type[BaseException] = EOFError
) -> tuple[str, str]:
    """What a session with these lines prints to stdout and stderr."""
    InteractiveSession(loader(manager), "models/export", typed(*lines, end=end)).run()
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_one_two_and_more_responses(manager: RewardModelManager, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = session(manager, capsys, "Q", "good", "", "Q", "good", "bad", "", "Q", "good", "bad", "x", "", "Q", "")
    single, compared, ranked = re.split(r"(?=    reward  response|rank  )", out)
    assert single == f"reward {manager.get_reward_score('good', 'Q'):+.4f}\n"
    assert "preferred" in compared or "a tie" in compared
    assert len(re.findall(r"^ +[123] +[+-]", ranked, re.MULTILINE)) == 3


def test_what_is_cut_is_told(manager: RewardModelManager, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = session(manager, capsys, "Q", "good", "word " * 1000, "")
    assert "preferred" in out
    assert "note: longer than the limit of 160 tokens" in err
    assert "tokens from the middle of response 2" in err


def test_it_leaves_cleanly_in_the_middle(manager: RewardModelManager, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = session(manager, capsys, "Q", "good", end=KeyboardInterrupt)
    assert out == ""
    assert "Traceback" not in err


@pytest.mark.parametrize("lines", [("good",), ("good\\",), ("/help", "good"), ()], ids=" ".join)
def test_the_end_of_the_input_is_as_an_empty_line(
    manager: RewardModelManager, capsys: pytest.CaptureFixture[str], lines: tuple[str, ...]
) -> None:
    out, err = session(manager, capsys, "Q", *lines)
    assert out == (f"reward {manager.get_reward_score('good', 'Q'):+.4f}\n" if lines else "")
    assert "error" not in err


def test_quit_ends_and_nothing_after_it_is_read(
    manager: RewardModelManager, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = session(manager, capsys, "Q", "good", "/quit", "bad", "")
    assert out == ""


def test_several_lines_make_one_text(manager: RewardModelManager, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = session(manager, capsys, "Q", "first\\", "\\", "third", "")
    assert out == f"reward {manager.get_reward_score(chr(10).join(['first', '', 'third']), 'Q'):+.4f}\n"


def test_an_error_ends_nothing(manager: RewardModelManager, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = ["/nonsense", "/model /nowhere", "@/nowhere.json", "Q", "\udc80", "", "Q", "good", ""]
    out, err = session(manager, capsys, *lines)
    assert err.count("error: ") == 4
    assert "no trained model in /nowhere" in err
    assert out == f"reward {manager.get_reward_score('good', 'Q'):+.4f}\n"


def test_commands(
    trained: Project, manager: RewardModelManager, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    chat = tmp_path / "chat.json"
    chat.write_text(json.dumps([{"role": "user", "content": "Q"}]))
    model = trained.folder / "models/reward"
    out, err = session(manager, capsys, "/help", "wrong", "/again", f"@{chat}", "/model", "good", f"/model {model}", "")
    assert "/quit" in err
    assert "model models/export (torch, cpu, float32)" in err
    assert f"model {model} (torch, cpu, float32)" in err
    assert out == f"reward {manager.get_reward_score('good', 'Q'):+.4f}\n"


def test_each_model_gets_the_backend_that_suits_it(trained: Project) -> None:
    lines = "/model\n/model models/reward\n/model models/export\n"
    result = trained.run("stages/score.py", "--interactive", "--device", "cpu", input=lines)
    assert result.returncode == 0, result.stderr
    models = [line for line in re.split(r"prompt> |\n", result.stderr) if line.startswith("model ")]
    onnx = "model models/export (onnx, cpu)"
    assert models == [onnx, "model models/reward (torch, cpu, float32)", onnx]


def test_piped_lines(trained: Project) -> None:
    result = trained.run("stages/score.py", "--interactive", input="Q\ngood answer\nbad\n\nQ\nA\nB")
    assert result.returncode == 0
    assert result.stdout.count("preferred") + result.stdout.count("a tie") == 2
    assert "prompt> " in result.stderr
    assert "prompt> " not in result.stdout
    assert "Traceback" not in result.stderr


def test_models_of_the_hub_by_their_names(trained: Project, tmp_path: Path) -> None:
    """The second is fetched once what keeps the libraries off the hub has been imported."""
    export = trained.folder / "models/export"
    with serve_hub({"models/some/model": export, "models/other/model": export}) as address:
        command = ["stages/score.py", "--model", "hub:some/model", "--interactive", "--backend", "onnx"]
        lines = "/model\n/model hub:other/model\n/model hub:no/such\nQ\ngood\n\n"
        result = trained.run(*command, input=lines, env=hub_environment(address, tmp_path))
    assert (result.returncode, result.stdout[:7]) == (0, "reward ")
    assert "model hub:some/model (onnx, cpu)" in result.stderr
    assert "model hub:other/model (onnx, cpu)" in result.stderr
    assert "error: cannot fetch no/such at main" in result.stderr


def read_until(terminal: int, sign: str, seconds: float = 90) -> str:
    seen = ""
    deadline = time.monotonic() + seconds
    while sign not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 4096).decode(errors="replace")
            if seen.endswith("\x1b[6n"):  # the terminal is asked where its cursor is
                os.write(terminal, b"\x1b[1;1R")
    return seen


@pytest.mark.parametrize("key", [b"\x04", b"\x03"], ids=["Ctrl-D", "Ctrl-C"])
def test_a_terminal_session(trained: Project, key: bytes) -> None:
    terminal, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "stages/score.py", "--interactive", "--backend", "torch", "--device", "cpu"],
        cwd=trained.folder,
        stdin=child,
        stdout=subprocess.PIPE,
        stderr=child,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(child)
    read_until(terminal, "prompt>")
    # A paste with two lines is one prompt; Alt-Enter makes a new line; the arrow brings the prompt back.
    os.write(terminal, b"\x1b[200~line one\nline two\x1b[201~\r")
    read_until(terminal, "response A>")
    os.write(terminal, b"good\x1b\ranswer\r")
    read_until(terminal, "response B>")
    os.write(terminal, b"\r")
    read_until(terminal, "prompt>")
    os.write(terminal, key)
    out, _ = process.communicate(timeout=60)
    os.close(terminal)
    assert process.returncode == 0
    manager = RewardModelManager(device="cpu")
    manager.load_trained_model(trained.folder / "models/export")
    assert (
        out.decode()
        == f"reward {manager.get_reward_score('good' + chr(10) + 'answer', 'line one' + chr(10) + 'line two'):+.4f}\n"
    )
