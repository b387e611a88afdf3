"""The exported forms beside the trained model, with the consumers that people have."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from conftest import Project
from hub_stand_in import hub_environment, serve_hub
from reward_model import RewardModelManager
from reward_model.common.errors import UserError
from reward_model.common.files import hash_file, read_json, read_jsonl, write_json
from reward_model.exporting.check import compare, require
from reward_model.exporting.metadata import gather_metadata
from reward_model.exporting.model_card import license_tag
from reward_model.params import load_params

KEYS = {"pairs", "max_abs_diff", "preference_agreement", "bytes"}


def held_out(trained: Project) -> list[dict[str, Any]]:
    return read_jsonl(trained.folder / "data/pairs/heldout.jsonl")


@pytest.fixture(scope="module")
def expected(trained: Project) -> list[float]:
    """The trained model's rewards of the chosen responses."""
    manager = RewardModelManager(device="cpu", backend="torch")
    manager.load_trained_model(trained.folder / "models/reward")
    return [item.reward_a for item in manager.score_pairs(held_out(trained))]


def exported_again(trained: Project, folder: Path, **export: str) -> Project:
    """A copy of the trained project, exported with other params."""
    for name in ("stages", "data", "metrics"):
        shutil.copytree(trained.folder / name, folder / name)
    for name in ("base", "reward"):
        shutil.copytree(trained.folder / "models" / name, folder / "models" / name)
    shutil.copy(trained.folder / "params.yaml", folder)
    project = Project(folder)
    project.set_params({f"export.{name}": value for name, value in export.items()})
    return project


def test_the_default_export_checks_both_forms(trained: Project) -> None:
    checks = trained.read("metrics/export.json")
    assert set(checks) == {"safetensors", "onnx"}
    for name, check in checks.items():
        assert set(check) == KEYS
        assert check["max_abs_diff"] <= 1e-4
        assert check["preference_agreement"] == 1
        assert check["pairs"] == len(held_out(trained))
        files = (trained.folder / "models/export").glob(f"model.{name}*")
        assert check["bytes"] == sum(path.stat().st_size for path in files)


def test_onnx_gives_the_contracts_rewards(trained: Project, expected: list[float]) -> None:
    manager = RewardModelManager(backend="onnx", batch_size=3)
    session, tokenizer = manager.load_trained_model(trained.folder / "models/export")
    assert type(session).__name__ == "InferenceSession"
    assert tokenizer.token_to_id("<|im_end|>") == 2
    found = [item.reward_a for item in manager.score_pairs(held_out(trained))]
    assert found == pytest.approx(expected, abs=1e-4)
    ranking = manager.rank_responses("Q", ["good <|im_end|>", "a", ""])
    with_torch = RewardModelManager(device="cpu", backend="torch")
    with_torch.load_trained_model(trained.folder / "models/export")
    again = with_torch.rank_responses("Q", ["good <|im_end|>", "a", ""])
    assert [item.reward for item in ranking] == pytest.approx([item.reward for item in again], abs=1e-4)


def test_onnx_needs_neither_torch_nor_transformers_nor_the_project(trained: Project, tmp_path: Path) -> None:
    """The folder moved elsewhere; the package alone; every other import forbidden."""
    shutil.copytree(trained.folder / "models/export", tmp_path / "model")
    shutil.copytree(trained.folder / "stages/reward_model", tmp_path / "installed/reward_model")
    script = """
import sys
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in "torch transformers trl datasets pandas pyarrow scipy pydantic yaml".split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Forbidden())
from reward_model import RewardModelManager
manager = RewardModelManager(backend="onnx")
manager.load_trained_model("model")
print(manager.get_reward_score("good answer", "Q"))
open("in.jsonl", "w").write('{"text": "good"}\\n')
print(manager.score_file("in.jsonl", "out.jsonl").rows)
"""
    result = Project(tmp_path).run("-c", script, env=os.environ | {"PYTHONPATH": "installed"})
    assert result.returncode == 0, result.stderr
    reward, rows = result.stdout.split()
    manager = RewardModelManager(device="cpu")
    manager.load_trained_model(trained.folder / "models/export")
    assert float(reward) == pytest.approx(manager.get_reward_score("good answer", "Q"), abs=1e-4)
    assert rows == "1"


SCORE_AND_TELL_OF_TORCH = (
    "import sys; sys.path.insert(0, 'stages'); sys.argv = ['score.py', '--text', 'good', *sys.argv[1:]]\n"
    "import score; score.main(); print('torch' in sys.modules)"
)


def test_score_takes_onnx_by_itself_for_small_work(trained: Project) -> None:
    reward, with_torch = trained.run("-c", SCORE_AND_TELL_OF_TORCH).stdout.split()
    assert with_torch == "False"
    again, with_torch = trained.run("-c", SCORE_AND_TELL_OF_TORCH, "--backend", "torch").stdout.split()
    assert with_torch == "True"
    assert float(reward) == pytest.approx(float(again), abs=2e-4)


def test_onnx_faults_are_one_line(trained: Project, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set export\.onnx"):
        RewardModelManager(backend="onnx").load_trained_model(trained.folder / "models/reward")
    with pytest.raises(UserError, match="no trained model"):
        RewardModelManager(backend="onnx").load_trained_model(tmp_path)
    folder = Path(shutil.copytree(trained.folder / "models/export", tmp_path / "export"))
    (folder / "model.safetensors").unlink()  # it does not read those, nor spend time on checking them
    RewardModelManager(backend="onnx").load_trained_model(folder)
    for name in ("model.onnx.data", "model.onnx"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-10])
        with pytest.raises(UserError, match=f"{name} is damaged or altered"):
            RewardModelManager(backend="onnx").load_trained_model(folder)
    with pytest.raises(UserError, match="computes on the CPU"):
        RewardModelManager(backend="onnx", precision="bf16")


def test_half_precision_and_int8_are_smaller_and_close(trained: Project, tmp_path: Path, expected: list[float]) -> None:
    project = exported_again(trained, tmp_path / "project", dtype="bf16", onnx="int8")
    project.stage("export")
    checks, before = project.read("metrics/export.json"), trained.read("metrics/export.json")
    assert checks["safetensors"]["bytes"] < 0.55 * before["safetensors"]["bytes"]
    assert checks["onnx"]["bytes"] < before["onnx"]["bytes"]
    graph = onnx.load(project.folder / "models/export/model.onnx", load_external_data=False).graph
    layers = project.read("metrics/train.json")["layers"]
    weights_of = {weight.name for weight in graph.initializer}
    multiplied = [name for node in graph.node if node.op_type in ("MatMul", "Gemm") for name in node.input]
    assert sum(node.op_type == "MatMulNBits" for node in graph.node) == 7 * layers + 1  # and the head
    assert not weights_of & set(multiplied)
    assert all(check["preference_agreement"] >= 0.98 for check in checks.values())
    folder = project.folder / "models/export"
    assert read_json(folder / "config.json")["dtype"] == "bfloat16"
    assert project.run("-c", SCORE_AND_TELL_OF_TORCH).stdout.split()[1] == "True", "int8 only where it is asked for"
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    assert plain.dtype == torch.bfloat16
    manager = RewardModelManager(device="cpu", backend="torch")
    manager.load_trained_model(folder)
    found = [item.reward_a for item in manager.score_pairs(held_out(trained))]
    assert found == pytest.approx(expected, abs=0.3)
    # The trained model, of which the export may hold links, is as it was.
    weights = "models/reward/model.safetensors"
    assert hash_file(project.folder / weights) == hash_file(trained.folder / weights)


def test_without_onnx_there_is_none_and_torch_is_taken(trained: Project, tmp_path: Path) -> None:
    project = exported_again(trained, tmp_path / "project", onnx="none")
    project.stage("export")
    assert not (project.folder / "models/export/model.onnx").exists()
    assert set(project.read("metrics/export.json")) == {"safetensors"}
    assert float(project.run("stages/score.py", "--text", "good").stdout)


def test_an_artefact_that_is_too_far_off_is_refused() -> None:
    expected = [(1.0, 0.0)] * 100
    exact = compare([(1.0 + 5e-5, 0.0)] * 100, expected, 7)
    assert (exact.pairs, exact.max_abs_diff, exact.preference_agreement, exact.bytes) == (
        100,
        pytest.approx(5e-5),
        1,
        7,
    )
    require("onnx", exact, exact=True)
    with pytest.raises(UserError, match=r"differ by up to 0\.0002"):
        require("onnx", compare([(1.0002, 0.0)] * 100, expected, 7), exact=True)
    turned = [(0.0, 1.0)] * 3 + expected[3:]
    with pytest.raises(UserError, match="only 97% of the preferences"):
        require("int8", compare(turned, expected, 7), exact=False)
    require("int8", compare(turned[1:] + expected[:1], expected, 7), exact=False)
    require("int8", compare([(0.0, 1.0), (1.0, 0.0)], expected[:2], 7), exact=False)
    with pytest.raises(UserError, match="only 33% of the preferences"):
        require("int8", compare([(0.0, 1.0), (0.0, 1.0), (1.0, 0.0)], expected[:3], 7), exact=False)
    near_a_tie = [(1.0, 1.0 + 1e-6)] * 100
    require("onnx", compare(near_a_tie, [(1.0, 1.0 - 1e-6)] * 100, 7), exact=True)


@pytest.mark.parametrize(
    ("base", "data", "expected"),
    [
        ("apache-2.0", "cc-by-nc-4.0", "cc-by-nc-4.0"),
        ("apache-2.0", "mit", "mit"),
        ("llama3.1", "apache-2.0", "llama3.1"),
        ("llama3.1", "llama3.1", "llama3.1"),
        ("llama3.1", "cc-by-4.0", "other"),
        ("unknown", "mit", "other"),
        ("mit", "unknown", "other"),
        ("unknown", "unknown", "other"),
    ],
)
def test_the_card_s_licence_is_the_one_that_asks_for_more(base: str, data: str, expected: str) -> None:
    assert license_tag(base, data) == expected


def test_an_export_that_fails_its_check_leaves_the_one_before(trained: Project, tmp_path: Path) -> None:
    project = exported_again(trained, tmp_path / "project", onnx="none")
    project.stage("export")
    before = hash_file(project.folder / "models/export/SHA256SUMS")
    export = project.folder / "stages/reward_model/exporting/check.py"
    export.write_text(export.read_text().replace("EXACT = 1e-4", "EXACT = -1.0"))
    result = project.run("stages/export.py")
    assert result.returncode == 1
    assert result.stderr.startswith("error: safetensors: rewards differ")
    assert hash_file(project.folder / "models/export/SHA256SUMS") == before


def test_transformers_pipeline_gives_the_reward(trained: Project, expected: list[float]) -> None:
    folder = trained.folder / "models/export"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    classify = pipeline("text-classification", model=str(folder), tokenizer=tokenizer, batch_size=4)
    chats = [[*pair["prompt"], {"role": "assistant", "content": pair["chosen"]}] for pair in held_out(trained)]
    texts = [str(tokenizer.apply_chat_template(chat, tokenize=False)) for chat in chats]
    found = [item["score"] for item in classify(texts, add_special_tokens=False)]
    limit = trained.read("metrics/tokens.json")["max_length"]
    compared = 0
    for text, reward, right in zip(texts, found, expected, strict=True):
        if len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= limit:
            assert reward == pytest.approx(right, abs=1e-4)
            compared += 1
    assert compared >= 5


def test_push_uploads_the_folder_as_it_is(trained: Project, tmp_path: Path) -> None:
    pushed = tmp_path / "hub"
    with serve_hub({}, uploads=pushed) as address:
        environment = hub_environment(address, tmp_path / "home")
        result = trained.run("stages/export.py", "--push-to-hub", "me/reward", env=environment)
    assert result.returncode == 0, result.stderr
    assert "pushed to " in result.stdout
    folder = trained.folder / "models/export"
    uploaded = {path.name: hash_file(path) for path in (pushed / "me/reward").iterdir()}
    assert uploaded == {path.name: hash_file(path) for path in folder.iterdir()}
    assert json.loads((pushed / "created.json").read_text())["visibility"] == "private"


def test_metadata_has_no_path_of_this_machine(
    trained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = exported_again(trained, tmp_path / "project")
    provenance, counts = (project.folder / name for name in ("data/pairs/provenance.json", "metrics/data.json"))
    mine = "/somewhere/of/mine"
    own = read_json(provenance)
    data = {"source": "path", "path": mine, "sources": [{"path": f"{mine}/a"}, {"path": f"{mine}/b"}]}
    write_json(provenance, {"params": own["params"] | data})
    files = {f"{mine}/a/train.jsonl": 3, f"{mine}/b/train.jsonl": 4}
    write_json(counts, read_json(counts) | {"files": files, "sources": {f"{mine}/a": {"rows": 3}}})
    evaluation = project.folder / "metrics/eval.json"
    figures = read_json(evaluation)
    figures["heldout"]["by_source"] = {"/r/a": {"n": 20}}
    figures["heldout"]["reference_models"] = {"/somewhere/x/export": {"n": 1}, "/somewhere/y/export": {"n": 2}}
    write_json(evaluation, figures)
    monkeypatch.chdir(project.folder)
    params = load_params()
    found = gather_metadata(replace(params.base, source="path", path="~/models/base"), params.export)
    assert "somewhere" not in json.dumps(found)
    assert found["params"]["base"]["path"] == "base"
    assert found["params"]["data"]["path"] == "mine"
    assert [source["path"] for source in found["params"]["data"]["sources"]] == ["mine/a", "mine/b"]
    heldout = found["evaluation"]["heldout"]
    assert (heldout["by_source"], heldout["reference_models"]) == (
        {"/r/a": {"n": 20}},
        {"x/export": {"n": 1}, "y/export": {"n": 2}},
    )
    assert found["data"]["counts"]["files"] == {"mine/a/train.jsonl": 3, "mine/b/train.jsonl": 4}


def test_a_second_push_replaces_the_model_and_keeps_other_files(trained: Project, tmp_path: Path) -> None:
    pushed = tmp_path / "hub/me/reward"
    (pushed / "onnx").mkdir(parents=True)
    for name in ("pytorch_model.bin", "merges.txt", "onnx/model.onnx", "picture.png", ".gitattributes"):
        (pushed / name).write_text("earlier")
    with serve_hub({"models/me/reward": pushed}, uploads=tmp_path / "hub") as address:
        environment = hub_environment(address, tmp_path / "home")
        push = ["stages/export.py", "--push-to-hub", "me/reward"]
        refused = trained.run(*push, env=environment)
        assert refused.stderr == "error: me/reward is public: give --public to push to it, or another name\n"
        assert not (pushed / "README.md").exists()
        result = trained.run(*push, "--public", env=environment)
    assert result.returncode == 0, result.stderr
    exported = {path.name for path in (trained.folder / "models/export").iterdir()}
    there = {path.relative_to(pushed).as_posix() for path in pushed.rglob("*") if path.is_file()}
    assert there == exported | {"picture.png", ".gitattributes"}


def test_push_faults_are_one_line(trained: Project, project: Project, tmp_path: Path) -> None:
    environment = hub_environment("http://127.0.0.1:9", tmp_path)
    for of, name in ((trained, "me/reward"), (trained, "not a name!"), (project, "me/reward")):
        result = of.run("stages/export.py", "--push-to-hub", name, env=environment)
        assert result.returncode == 1
        assert result.stderr.startswith("error: ")
        assert len(result.stderr.splitlines()) == 1
