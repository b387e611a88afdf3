"""The command line of score.py, in this process where that is the same, else in its own."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import score
from conftest import Project, write_rows
from reward_model.common.errors import run

PAIR = ["--response_a", "good answer: cat dog", "--response_b", "bad tree"]
PROMPT = ["--prompt", "question 99 about red cat dog?"]


class Result:
    """What a command gave: exit status, stdout, stderr."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def command(trained: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run score.py's main as `python stages/score.py` does, with the trained project's model."""
    monkeypatch.chdir(trained.folder)

    def call(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["score.py", *arguments])
        try:
            run(score.main, exit_status=2)
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return call


@pytest.mark.parametrize(
    ("target", "why"),
    [("out.csv", "rows of JSONL have no fixed columns"), ("out.txt", ".jsonl, .csv and .parquet files are written")],
)
def test_an_output_that_cannot_hold_the_rows_is_refused_before_a_model_is_looked_for(
    command: Any, target: str, why: str
) -> None:
    result = command("--model", "nowhere", "--input", "rows.ndjson", "--output", target)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"error: {target}: {why}")
    assert "no trained model in nowhere" in command("--model", "nowhere", "--input", "a.csv", "--output", "b.csv").err


def test_without_a_model_it_is_one_line(project: Project) -> None:
    result = project.run("stages/score.py")
    assert result.returncode == 2
    assert result.stderr == (
        f"error: no trained model in models/export, which is no folder in {project.folder}: run `make repro` in the "
        "project's folder, which trains one and exports it into models/export; a hub's is hub:NAME\n"
    )


def test_a_text_as_a_command_prints_its_reward_and_nothing_else(trained: Project) -> None:
    result = trained.run("stages/score.py", "--text", "good answer: cat")
    assert result.returncode == 0
    assert result.stderr == ""
    assert isinstance(float(result.stdout), float)
    assert len(result.stdout.splitlines()) == 1


def test_the_python_api_is_quiet_and_does_not_import_what_only_training_needs(trained: Project) -> None:
    """TRL and datasets take seconds to import."""
    script = (
        "import sys; sys.path.insert(0, 'stages')\n"
        "from reward_model import RewardModelManager\n"
        "manager = RewardModelManager(); manager.load_trained_model('models/export'); manager.get_reward_score('x')\n"
        "print(sorted({'trl', 'datasets', 'pandas', 'prompt_toolkit'} & set(sys.modules)))"
    )
    result = trained.run("-c", script)
    assert result.stdout == "[]\n"
    assert result.stderr == ""


def test_the_examples(command: Any) -> None:
    result = command()
    assert result.status == 0
    assert result.out.count("is preferred") + result.out.count("a tie") == 3


def test_a_comparison_for_people(command: Any) -> None:
    result = command(*PROMPT, *PAIR)
    assert result.status == 0
    header, first, second, verdict = result.out.splitlines()
    assert header.split() == ["reward", "response"]
    assert first.startswith("A ") and first.endswith("good answer: cat dog")
    assert second.startswith("B ") and second.endswith("bad tree")
    assert verdict.startswith("A is preferred, with probability ")


def test_responses_that_differ_by_nothing_and_by_little_are_said_to(command: Any) -> None:
    same = command(*PROMPT, "--response_a", "good", "--response_b", "good")
    assert "a tie: the rewards are equal" in same.out
    close = command(*PROMPT, "--response_a", "x", "--response_b", "y")
    if json.loads(command(*PROMPT, "--response_a", "x", "--response_b", "y", "--json").out)["within_noise"]:
        assert "that is within noise: of " in close.out
    else:
        assert "within noise" not in close.out


def test_a_model_that_was_not_calibrated_says_so(command: Any) -> None:
    result = command("--model", "models/reward", *PROMPT, *PAIR)
    assert "not calibrated" in result.out


def test_a_ranking_for_people(command: Any) -> None:
    result = command(*PROMPT, "--responses", "bad tree", "good answer: cat dog", "good\nanswer " * 50)
    lines = result.out.splitlines()
    assert lines[0].split() == ["rank", "reward", "over", "best", "number", "response"]
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "3"]
    assert max(map(len, lines[:4])) <= 120


def test_json_is_one_line_with_all_figures(command: Any) -> None:
    reward = json.loads(command("--text", "good", "--json").out)
    assert list(reward) == ["reward"]
    compared = command(*PROMPT, *PAIR, "--json").out
    assert compared.count("\n") == 1
    assert set(json.loads(compared)) == {
        "reward_a",
        "reward_b",
        "margin",
        "preferred",
        "probability_a",
        "within_noise",
    }
    ranked = json.loads(command(*PROMPT, "--responses", "é", "bad", "--json").out)["ranking"]
    assert {item["response"] for item in ranked} == {"é", "bad"}
    assert set(ranked[0]) == {"index", "response", "reward", "probability", "within_noise"}
    assert ranked[0]["within_noise"]


def test_explanations_follow_the_result_and_are_data_in_json(command: Any) -> None:
    asked = [*PROMPT, "--response_a", "good answer. Cat dog", "--response_b", "bad tree"]
    plain, explained = command(*asked), command(*asked, "--explain")
    assert (explained.status, explained.err) == (0, "")
    assert explained.out.splitlines()[3:5] == [plain.out.splitlines()[3], ""]
    assert "\nA reward " in explained.out and "\nB reward " in explained.out
    data = json.loads(command(*asked, "--explain", "--json").out)
    assert [len(each["sentences"]) for each in data["explanations"]] == [2, 0]
    assert data["explanations"][1]["reward"] == pytest.approx(data["reward_b"], abs=1e-4)
    assert data["explanations"][0]["tokens"][-1]["value"] == pytest.approx(data["reward_a"], abs=1e-4)
    ranked = command(*PROMPT, "--responses", "x", "y", "z", "--explain").out
    assert "\n3 reward " in ranked
    assert "\nreward " in command("--text", "good", "--explain", "--normalize").out.replace("z-score", "reward")


def test_a_chat_as_prompt(command: Any, tmp_path: Path) -> None:
    chat = tmp_path / "chat.json"
    chat.write_text(json.dumps([{"role": "user", "content": PROMPT[1]}]))
    assert command("--prompt", f"@{chat}", "--text", "good").out == command(*PROMPT, "--text", "good").out
    # Only a JSON file is a chat: other text may begin with the sign.
    assert command("--prompt", "@someone hello", "--text", "good").status == 0
    for content, part in (("{", "is not JSON"), ('{"role": "user"}', "is no chat"), ("[]", "is no chat")):
        chat.write_text(content)
        result = command("--prompt", f"@{chat}", "--text", "good")
        assert result.status == 2
        assert part in result.err
        assert str(chat) in result.err
    assert "cannot be read" in command("--prompt", "@/nowhere/chat.json", "--text", "good").err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--prompt", "Q"],
        ["--response_a", "A"],
        ["--prompt", "Q", "--response_a", "A"],
        ["--response_a", "A", "--response_b", "B"],
        ["--responses", "A", "B"],
        ["--text", "T", "--prompt", "Q", "--responses", "A"],
        ["--text", "T", "--interactive"],
        ["--prompt", "Q", "--interactive"],
        ["--prompt", "Q", "--input", "a.jsonl", "--output", "b.jsonl"],
        ["--input", "a.jsonl"],
        ["--output", "a.jsonl"],
        ["--resume"],
        ["--json"],
        ["--input", "a.jsonl", "--output", "-", "--resume"],
        ["--input", "a.jsonl", "--output", "a.jsonl"],
        ["--input", "nowhere.jsonl", "--output", "b.jsonl"],
        ["--explain"],
        ["--explain", "--interactive"],
        ["--explain", "--input", "a.jsonl", "--output", "b.jsonl"],
        ["--explain", "--text", "T", "--backend", "onnx"],
        ["--text", "T", "--batch-size", "0"],
        ["--text", "T", "--batch-size", "many"],
        ["--text", "T", "--model", "/nowhere"],
        ["--text", "\udc80"],
        ["--text"],
        ["--nonsense"],
    ],
    ids=" ".join,
)
def test_what_does_not_go_together_is_one_line_and_status_2(command: Any, arguments: list[str]) -> None:
    result = command(*arguments)
    assert result.status == 2
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert len(result.err.splitlines()) == 1


def test_a_text_without_its_option_is_told_of_it(command: Any) -> None:
    assert (
        "unrecognized arguments: answer; a text needs its option, and quotes" in command("--text", "good", "answer").err
    )
    assert "unrecognized arguments: --xyz (" in command("--xyz").err
    assert (
        "one response is given as --text, two as" in command("--prompt", "Q", "--response", "A", "--response", "B").err
    )


def test_a_file_with_a_bad_row_is_status_1(command: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"text": "good"}, {"text": "bad"}])
    result = command("--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl"))
    assert (result.status, result.out) == (0, "")
    assert "2 rows scored" in result.err
    write_rows(tmp_path / "in.jsonl", [{"text": "good"}, {"words": "bad"}])
    result = command("--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl"))
    assert (result.status, result.out) == (1, "")
    assert "1 of 2 rows scored, the others have an `error`" in result.err
    assert "note: the first is in row 2: nothing to score: " in result.err


def test_what_a_file_lost_to_cutting_is_told(command: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"text": "good"}, {"text": "word " * 500}, {"prompt": "Q " * 500, "text": "A"}])
    result = command("--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl"))
    assert result.status == 0
    note = "note: 2 rows were longer than the limit of 160 tokens, and were cut to fit"
    assert result.err.splitlines()[-1] == note


def test_scoring_anew_what_was_interrupted_is_told(command: Any, tmp_path: Path) -> None:
    source, target = str(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    write_rows(tmp_path / "in.jsonl", [{"text": "good"}])
    assert "interrupted" not in command("--input", source, "--output", str(target)).err
    target.with_name("out.jsonl.progress").write_text('{"rows": 7}')
    result = command("--input", source, "--output", str(target))
    assert f"note: {target} was interrupted after 7 rows; without --resume it starts over\n" in result.err
    assert not target.with_name("out.jsonl.progress").exists()
    for rubbish in ("{", "[]", '{"more": 1}'):
        target.with_name("out.jsonl.progress").write_text(rubbish)
        assert command("--input", source, "--output", str(target)).status == 0


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_stdin_to_stdout(trained: Project, form: str) -> None:
    rows = {"jsonl": '{"text": "good"}\n{"text": "bad"}\n', "csv": "text\ngood\nbad\n"}[form]
    result = trained.run("stages/score.py", "--input", "-", "--output", "-", "--format", form, input=rows)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    if form == "csv":
        assert lines.pop(0) == "text,reward,error"
    assert len(lines) == 2
    assert "2 rows scored" in result.stderr


def start_long_run(project: Project, tmp_path: Path, *options: str) -> subprocess.Popen[str]:
    write_rows(tmp_path / "in.jsonl", [{"n": n, "text": f"good answer {n} " * 60} for n in range(20_000)])
    files = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl"), "--batch-size", "1"]
    # A shell without job control has its background jobs, and what they start, ignore Ctrl-C.
    heed_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        [sys.executable, "stages/score.py", *files, *options],
        cwd=project.folder,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )


def wait_for_rows(path: Path, rows: int) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() or path.read_bytes().count(b"\n") < rows:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ctrl_c_and_a_kill_leave_whole_rows_that_are_resumed(trained: Project, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    process = start_long_run(trained, tmp_path)
    wait_for_rows(out, 30)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume continues" in err
    assert "Traceback" not in err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["n"] for row in rows] == list(range(len(rows)))
    assert len(rows) >= 30
    process = start_long_run(trained, tmp_path, "--resume")
    wait_for_rows(out, len(rows) + 30)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    after = out.read_text()
    resumed = [json.loads(line) for line in after.splitlines() if after.endswith("\n") or line.endswith("}")]
    assert resumed[: len(rows)] == rows
    assert [row["n"] for row in resumed] == list(range(len(resumed)))


def test_a_reader_that_goes_away_is_no_error(trained: Project) -> None:
    rows = '{"text": "good"}\n' * 400
    line = f"{sys.executable} stages/score.py --input - --output - --batch-size 1 | head -n 1"
    result = subprocess.run(
        line, shell=True, cwd=trained.folder, input=rows, capture_output=True, text=True, check=False
    )
    assert len(result.stdout.splitlines()) == 1
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr


def test_an_option_that_is_nearly_one_is_named(command: Any) -> None:
    assert "--normalise; did you mean --normalize? (" in command("--text", "a", "--normalise").err
    assert "longer than the limit of 20 tokens" in command("--text", "word " * 50, "--max_length", "20").err
    for option in ("--text", "--prompt", "--response_a"):
        assert f"error: {option} is given twice (" in command(option, "a", option, "b").err
    assert "--prompt does not go with --input" in command("--prompt", "Q", "--input", "a.csv", "--output", "b.csv").err


def test_what_is_cut_from_texts_that_are_too_long_is_told_on_stderr(command: Any) -> None:
    result = command("--text", "word " * 500)
    assert result.status == 0
    assert isinstance(float(result.out), float)
    assert result.err.startswith("note: longer than the limit of 160 tokens; left out: ")
    assert result.err.endswith(" tokens from the middle of the text\n")
    result = command("--prompt", "word " * 500, "--response_a", "short", "--response_b", "no", "--json")
    assert json.loads(result.out)["preferred"] in ("a", "b", "tie")
    assert " tokens of the prompt\n" in result.err
    result = command("--prompt", "Q", "--responses", "word " * 500, "short")
    assert "; left out: the whole prompt, " in result.err
    assert command("--text", "short").err == ""


def test_a_file_of_another_name_is_not_taken_for_the_prompt_itself(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "chat.txt"
    path.write_text("[]")
    result = command("--prompt", f"@{path}", "--text", "6")
    assert (result.status, result.out) == (2, "")
    assert result.err == f"error: {path}: a chat is read from a file whose name ends in .json\n"
    assert command("--prompt", "@nobody", "--text", "6").status == 0
