"""What the READMEs say of params, files, commands, reasons and results is what the code and git have."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from conftest import DEFAULTS, ROOT, committed
from reward_model.data.chats import UNREAD_FIELDS
from reward_model.data.csv_rows import WRONG_CELLS
from reward_model.data.json_rows import TOO_DEEP
from reward_model.evaluation.report import results_table
from reward_model.params import Params
from tokenize_pairs import REASONS

READMES = [f"{folder}README.md" for folder in ("", "stages/", "data/", "metrics/", "models/", "tests/")]
TEXTS = {name: (ROOT / name).read_text() for name in READMES}
FOLDERS = "stages|metrics|data|models|tests"
# What a run leaves beside the outs of dvc.yaml, and folders of users.
UNTRACKED = {"dvc_plots", "data/comparison.html", "models/.checkpoints", "data/own", "data/external", "models/own"}
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())

MAX_README_LINES = 170
MAX_MODULE_LINES = 350
MAX_FUNCTION_LINES = 45

each_readme = pytest.mark.parametrize("name", READMES)


def outs() -> set[str]:
    entries = [entry for stage in PIPELINE["stages"].values() for key in ("outs", "metrics") for entry in stage[key]]
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


PIPELINE["stages"] = {name: {"outs": [], "metrics": [], **stage} for name, stage in PIPELINE["stages"].items()}
MADE = outs() | UNTRACKED


def is_there(name: str, folder: Path = ROOT) -> bool:
    """Whether a file or folder is tracked, or made by a stage."""
    parts = name.split("/")
    made = any("/".join(parts[:depth]) in MADE for depth in range(1, len(parts) + 1))
    return made or (folder / name).exists()


@each_readme
def test_every_file_that_is_named_exists(name: str) -> None:
    text = TEXTS[name]
    named = {path.rstrip("/") for path in re.findall(rf"[`\s(]((?:{FOLDERS})/[\w./-]*[\w/])", text)}
    assert named
    if name == "stages/README.md":  # it names modules from the package on
        named |= set(re.findall(r"`((?:[a-z]+/)+[a-z_]+\.py)`", text))
        named = {path for path in named if not is_there(f"stages/reward_model/{path}")}
    missing = {path for path in named if not is_there(path)}
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    missing |= {link for link in links if not is_there(link, (ROOT / name).parent)}
    assert not missing


@each_readme
def test_every_make_target_that_is_named_exists(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|\$ |^)make (?:[A-Z]+=\S+ )?(\w+)", TEXTS[name], re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@each_readme
def test_every_option_of_our_scripts_exists(name: str) -> None:
    for script, rest in re.findall(r"python ((?:stages|tests/performance)/\w+\.py)([^`\n|]*)", TEXTS[name]):
        code = (ROOT / script).read_text()
        for option in re.findall(r"(?<=\s)--[\w-]+", re.sub(r"#.*", "", rest)):
            assert f'"{option}"' in code, f"{script} {option}"


def test_every_option_of_score_and_serve_that_is_named_alone_exists() -> None:
    code = "".join((ROOT / f"stages/{name}.py").read_text() for name in ("score", "serve"))
    named = set(re.findall(r"`(--[\w-]+)", TEXTS["models/README.md"]))
    assert len(named) > 5
    assert {option for option in named if f'"{option}"' not in code} == {"--public"}, "of export.py"


def keys(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield f"{before}{key}"
        if isinstance(value, dict):
            yield from keys(value, f"{before}{key}.")


@each_readme
def test_every_params_key_that_is_named_exists(name: str) -> None:
    known = set(keys(DEFAULTS))
    named = set(re.findall(rf"(?<![/\w])(?:{'|'.join(DEFAULTS)})\.[a-z_]+(?:\.[a-z_]+)*", TEXTS[name]))
    assert {key for key in named - known if not key.endswith((".py", ".json"))} == set()


def params_rows(fields: Mapping[str, Any], values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The rows of the params table, in the order of params.yaml."""
    for key, field in fields.items():
        within = getattr(field.type, "__dataclass_fields__", None)
        if within is not None:
            yield from params_rows(within, values[key], f"{before}{key}.")
            continue
        value = values[key]
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
        described = field.default if hasattr(field.default, "description") else cast(Any, field.type).__metadata__[-1]
        yield f"| `{before}{key}` | `{shown}` | {described.description} |"


def test_the_params_table_has_every_key_with_its_default_and_meaning() -> None:
    rows = list(params_rows(Params.__dataclass_fields__, DEFAULTS))
    assert len(rows) > 40
    assert "\n".join(rows) in TEXTS["stages/README.md"], "the table must be:\n" + "\n".join(rows)


def test_the_results_table_is_that_of_the_committed_metrics() -> None:
    figures = committed("metrics/eval.json")
    if figures is None:
        pytest.skip("git is not there, or has committed no results")
    tables = [
        re.findall(r"<!-- results -->\n(.*)\n<!-- /results -->", text, re.DOTALL)
        for text in (committed("metrics/README.md") or "", TEXTS["metrics/README.md"])
    ]
    # One of the two is enough: whoever has run the pipeline may have refreshed the table of the working copy.
    assert [results_table(json.loads(figures))] in tables


def reasons() -> set[str]:
    """Each reason that a row can be skipped for, as the code has it."""
    code = "\n".join(path.read_text() for path in (ROOT / "stages").rglob("*.py"))
    found = set(re.findall(r'(?:InvalidRow|\.reject)\(\s*"([^"]+)"', code)) | {TOO_DEEP, WRONG_CELLS}
    [repeats] = re.findall(r"reasons\.append\((.*)\)", code)
    either = {reason for pair in re.findall(r'InvalidRow\("(\w+)" if .+ else "(\w+)"', code) for reason in pair}
    return found | either | set(UNREAD_FIELDS) | set(re.findall(r'"(\w+)"', repeats)) | set(REASONS)


def test_every_reason_for_which_a_row_is_skipped_has_a_cure() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \| .+ \| .+ \|$", TEXTS["data/README.md"], re.MULTILINE)
    listed = {reason for row in rows for reason in re.findall(r"`([^`]+)`", row)}
    assert len(reasons()) > 30
    assert reasons() <= listed


def test_every_room_is_in_the_table() -> None:
    rooms = {path.name for path in (ROOT / "stages/reward_model").iterdir() if (path / "__init__.py").exists()}
    assert rooms <= set(re.findall(r"^\| `(\w+)` \|", TEXTS["stages/README.md"], re.MULTILINE))


def test_every_stage_is_in_the_readme() -> None:
    assert [*PIPELINE["stages"]] == re.findall(r"^\| (\w+) \| .*`", TEXTS["README.md"], re.MULTILINE)


def test_the_readme_is_short() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= MAX_README_LINES


def test_modules_and_functions_are_short() -> None:
    long = []
    for path in sorted((ROOT / "stages").rglob("*.py")):
        text = path.read_text()
        if len(text.splitlines()) > MAX_MODULE_LINES:
            long.append(str(path.relative_to(ROOT)))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}: {node.name} has {lines} lines")
    assert not long


def test_the_folders_readmes_are_tracked_and_data_is_not() -> None:
    if committed("README.md") is None:
        pytest.skip("git is not there")

    def ignored(name: str) -> bool:
        command = ["git", "check-ignore", "--quiet", "--no-index", name]
        return subprocess.run(command, cwd=ROOT, check=False).returncode == 0

    assert not any(map(ignored, [*READMES, "data/own/README.md", "models/own/README.md"]))
    assert all(map(ignored, ["data/pairs/train.jsonl", "models/reward/config.json", "models/own/config.json"]))


def test_no_stage_depends_on_a_readme() -> None:
    for stage in PIPELINE["stages"].values():
        assert not {"data", "models", "metrics", "stages", "tests"} & {dep.rstrip("/") for dep in stage["deps"]}
        assert not [dep for dep in stage["deps"] if dep.endswith(".md")]
