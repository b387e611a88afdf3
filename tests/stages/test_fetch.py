import dataclasses
import hashlib
import json
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

import fetch
from conftest import Project, default_params, make_pairs, write_rows
from hub_stand_in import hub_environment, serve_hub
from reward_model.common.errors import UserError
from reward_model.common.tables import read_parquet


def wheel_of(folder: Path, name: str, members: dict[str, str]) -> fetch.Wheel:
    """A package file, as pip would have downloaded it, and its pin."""
    path = folder / f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in members.items():
            archive.writestr(member, text)
    return fetch.Wheel(name, "1.0", hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def pip_that_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 0, stdout="", stderr="")
    monkeypatch.setattr(fetch.subprocess, "run", lambda *args, **options: done)


@pytest.mark.usefixtures("pip_that_succeeds")
def test_a_file_other_than_the_pinned_one_is_one_error(tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path, "some-package", {"a": "1"})
    assert fetch.download(wheel, tmp_path).name == "some_package-1.0-py3-none-any.whl"
    altered = fetch.Wheel(wheel.name, wheel.version, "0" * 64)
    with pytest.raises(UserError, match=f"its sha256 is {wheel.sha256}, expected 0000"):
        fetch.download(altered, tmp_path)


def test_an_absent_package_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UserError, match=r"^cannot download no-such-package==9\.9: .*No matching distribution") as error:
        fetch.download(fetch.Wheel("no-such-package", "9.9", ""), tmp_path)
    assert "\n" not in str(error.value)


def judgement(instruction: str, first: str, second: str, preference: Any, given: str = "") -> dict[str, Any]:
    return {
        "instruction": instruction,
        "input": given,
        "output_1": first,
        "output_2": second,
        "preference": preference,
    }


def test_the_sample_joins_both_annotators_verdicts_whatever_the_order_of_the_outputs(tmp_path: Path) -> None:
    claude = [
        judgement("Q", "a", "b", 1, given="I"),
        judgement("only claude", "a", "b", 2),
        judgement("both ways", "a", "b", 1),
        judgement("both ways", "b", "a", 1),
        judgement("tie", "a", "b", 0),
    ]
    gpt4 = [
        judgement("Q\n\nI", "b", "a", "2"),
        judgement("both ways", "a", "b", "1"),
        judgement("tie", "a", "b", None),
    ]
    cohere = [judgement("both ways", "b", "a", 1), judgement("only cohere", "a", "b", 1)]
    judgements = {name: [] for name in (*fetch.ANNOTATORS, *fetch.JUDGES)} | {
        "claude": claude,
        "gpt4": gpt4,
        "cohere": cohere,
    }
    files = {
        fetch.ALPACA_EVAL_JUDGEMENTS.format(annotator=name, seed=0): json.dumps(own) for name, own in judgements.items()
    }
    wheel_of(tmp_path, "w", files)
    rows = fetch.judged_twice(tmp_path / "w-1.0-py3-none-any.whl")
    assert rows == [
        {"prompt": "Q\n\nI", "response_1": "a", "response_2": "b", "claude": [1], "gpt4": [1], "judges": {}},
        {
            "prompt": "both ways",
            "response_1": "a",
            "response_2": "b",
            "claude": [1, 2],
            "gpt4": [1],
            "judges": {"cohere": [2]},
        },
        {"prompt": "tie", "response_1": "a", "response_2": "b", "claude": [0], "gpt4": [0], "judges": {}},
    ]


def test_votes_are_the_mean_over_annotators_each_with_one(tmp_path: Path) -> None:
    judgements = {
        ("claude", 0): [judgement("Q", "a", "b", 1), judgement("Q", "b", "a", 1), judgement("alone", "a", "b", 1)],
        ("claude", 1): [judgement("Q", "b", "a", "2"), judgement("tie", "a", "b", 0)],
        ("gpt4", 0): [judgement("Q", "a", "b", 1), judgement("tie", "b", "a", 3), judgement("failed", "a", "b", -1)],
        ("cohere", 3): [judgement("Q", "a", "b", 2), judgement("failed", "a", "b", 1), judgement("number", "a", 4, 1)],  # type: ignore[arg-type]
    }
    files = {
        fetch.ALPACA_EVAL_JUDGEMENTS.format(annotator=name, seed=seed): json.dumps(own)
        for (name, seed), own in judgements.items()
    }
    wheel_of(tmp_path, "w", files | {"alpaca_eval/evaluators_configs/claude/other.json": "[]"})
    # claude: 1, 0, 1 → 2/3; gpt4: 1; cohere: 0
    assert fetch.mean_votes(tmp_path / "w-1.0-py3-none-any.whl") == [
        {"prompt": "Q", "response_1": "a", "response_2": "b", "preference": pytest.approx(5 / 9), "annotators": 3},
        {"prompt": "tie", "response_1": "a", "response_2": "b", "preference": 0.5, "annotators": 2},
    ]


def hub_fetch(project: Project, address: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run a part of fetch.py against a hub, as a process: the libraries read the address when they are imported."""
    environment = hub_environment(address, project.folder / "hf") | {"PYTHONPATH": str(project.folder / "stages")}
    script = f"import fetch, sys; from pathlib import Path; from reward_model.common.errors import run\n{code}"
    return project.run("-c", script, env=environment)


FETCH_MODEL = """
from reward_model.params import load_params
folder = Path("fetched"); folder.mkdir()
run(lambda: fetch.fetch_base(load_params().base, folder))
"""
FETCH_DATA = """
from reward_model.data.hub import download_dataset
from reward_model.params import load_params
folder = Path("fetched"); folder.mkdir()
data = load_params().data
run(lambda: download_dataset(data.source.removeprefix("hub:"), data.split, data.revision, folder / "hub.parquet"))
"""


def test_a_base_of_the_hub_is_fetched_without_code_or_pickles(
    project: Project, tmp_path: Path, tiny_base: Path
) -> None:
    remote = tmp_path / "remote"
    remote.mkdir()
    for path in tiny_base.iterdir():
        (remote / path.name).write_bytes(path.read_bytes())
    (remote / "modeling.py").write_text("raise SystemExit")
    (remote / "pytorch_model.bin").write_text("pickle")
    project.set_params({"base.source": "hub", "base.model": "some/base", "base.revision": "main"})
    with serve_hub({"models/some/base": remote}) as address:
        result = hub_fetch(project, address, FETCH_MODEL)
        assert result.returncode == 0, result.stderr
        fetched = {path.name for path in (project.folder / "fetched").iterdir()}
        assert fetched == {path.name for path in tiny_base.iterdir()}
        (project.folder / "fetched").rename(project.folder / "fetched1")
        project.set_params({"base.revision": "no-such-commit"})
        result = hub_fetch(project, address, FETCH_MODEL)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: cannot fetch some/base at no-such-commit")
    assert "Traceback" not in result.stderr


def test_pairs_of_the_hub_are_fetched(project: Project, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    remote.mkdir()
    rows = make_pairs(5)
    write_rows(remote / "train.jsonl", rows)
    project.set_params({"data.source": "hub:some/pairs"})
    with serve_hub({"datasets/some/pairs": remote}) as address:
        result = hub_fetch(project, address, FETCH_DATA)
        assert result.returncode == 0, result.stderr
        assert read_parquet(project.folder / "fetched/hub.parquet") == rows
        project.set_params({"data.source": "hub:no/such"})
        (project.folder / "fetched").rename(project.folder / "fetched1")
        result = hub_fetch(project, address, FETCH_DATA)
    assert result.returncode == 1
    assert "error: cannot fetch hub:no/such" in result.stderr
    assert "Traceback" not in result.stderr


def test_no_network_is_one_error(project: Project) -> None:
    project.set_params({"base.source": "hub"})
    result = hub_fetch(project, "http://127.0.0.1:9", FETCH_MODEL)
    assert result.returncode == 1
    assert "error: cannot fetch HuggingFaceTB/SmolLM2-135M-Instruct" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_local_base_is_copied_and_an_incomplete_one_is_one_error(tmp_path: Path, tiny_base: Path) -> None:
    target = tmp_path / "copy"
    target.mkdir()
    fetch.copy_model(tiny_base, target)
    assert (target / "model.safetensors").read_bytes() == (tiny_base / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"set base\.path"):
        fetch.copy_model(tmp_path / "absent", target)


def test_a_reward_model_is_a_base_without_what_its_export_says_of_it(tmp_path: Path, tiny_base: Path) -> None:
    own, target = shutil.copytree(tiny_base, tmp_path / "own"), tmp_path / "base"
    config = json.loads((own / "config.json").read_text())
    base = dataclasses.replace(default_params().base, source="path", path=str(own))
    for name in fetch.OWN_FILES:
        (own / name).write_text("{}")
    for labels, name in ((1, "LlamaForSequenceClassification"), (3, "LlamaForCausalLM"), (2, "LlamaForCausalLM")):
        id2label = {str(number): f"LABEL_{number}" for number in range(labels)}
        (own / "config.json").write_text(json.dumps(config | {"architectures": [name], "id2label": id2label}))
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        fetch.fetch_base(base, target)
        assert {path.name for path in target.iterdir()} == {path.name for path in tiny_base.iterdir()}
    for several in ({"id2label": {"0": "a", "1": "b", "2": "c"}}, {"id2label": None}, {"num_labels": 2}):
        changes = {"architectures": ["LlamaForSequenceClassification"], **several}
        (own / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(UserError, match=r"is a classifier with [23] labels: a reward model has one$"):
            fetch.fetch_base(base, target)


def test_a_stage_refuses_an_incomplete_base(project: Project) -> None:
    (project.folder / "models/own/config.json").unlink()
    project.set_params({"base.source": "path"})
    result = hub_fetch(project, "http://127.0.0.1:9", FETCH_MODEL)
    assert result.returncode == 1
    assert "is incomplete: it must have config.json" in result.stderr


def test_an_expert_row_follows_its_label() -> None:
    row = {"input": "Q", "category": "writing", "answer_a": "good", "answer_b": "bad"}
    lines = "".join(json.dumps(row | {"human_label": label}) + "\n" for label in ("A", "B", "tie"))
    first, second = fetch.parse_mt_bench(lines.encode())
    assert first == {"prompt": "Q", "chosen": "good", "rejected": "bad", "source": "mt_bench/writing"}
    assert (second["chosen"], second["rejected"]) == ("bad", "good")
