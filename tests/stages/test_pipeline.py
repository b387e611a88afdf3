"""The pipeline as DVC sees it, and once in full on the real base."""

import ast
import os
import shutil
import signal
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import DEFAULTS, ROOT, Project, committed
from reward_model.params import Params

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES, PLOTS = PIPELINE["stages"], PIPELINE["plots"]
PACKAGE = ROOT / "stages/reward_model"
PARAMS = {PACKAGE / "params.py", PACKAGE / "param_types.py"}
DVC = (sys.executable, "-m", "dvc")
# The stages call `python`: it must be this one.
ENVIRONMENT = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}


# Each may import from those before it alone.
ROOMS = (
    "common",
    "contract",
    "data",
    "modeling",
    "evaluation",
    "training",
    "scoring",
    "reporting",
    "serving",
    "cli",
    "exporting",
)
# Nearly all that is in them concerns every stage that uses them, so they are deps as a whole.
GROUND = ("common", "contract")


def script_of(stage: dict[str, Any]) -> Path:
    return ROOT / next(word for word in stage["cmd"].split() if word.startswith("stages/"))


def imports(path: Path) -> set[Path]:
    """The modules of the package that a file imports, lazily too; what only type checkers read apart."""
    found: set[Path] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            module = ROOT / "stages" / f"{name.replace('.', '/')}.py"
            if name.startswith("reward_model.") and module.exists():
                found.add(module)
    return found


def reached(path: Path) -> set[Path]:
    """All modules of the package that a script imports, directly or not."""
    found: set[Path] = set()
    waiting = imports(path)
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting |= imports(module) - found
    return found


def modules_below(path: Path) -> set[Path]:
    return {module for module in path.rglob("*.py") if module.name != "__init__.py"} if path.is_dir() else {path}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_its_script_and_every_module_it_reaches(name: str) -> None:
    script = script_of(STAGES[name])
    # DVC watches the values of params.yaml; no key has a default in params.py.
    wanted = {script, PACKAGE / "__init__.py", *reached(script)} - PARAMS
    deps = [ROOT / dep for dep in STAGES[name]["deps"] if dep.startswith("stages/")]
    assert set().union(*map(modules_below, deps)) >= wanted
    ground = {PACKAGE / room for room in GROUND}
    unused = {module for dep in deps if dep not in ground for module in modules_below(dep)} - wanted
    assert not unused, "deps that are not used make a stage run for nothing"


def stale_after(module: str) -> set[str]:
    """The stages that a change of a module of the package makes stale by itself."""
    path = PACKAGE / module
    return {
        name
        for name, stage in STAGES.items()
        if any(path in modules_below(ROOT / dep) for dep in stage["deps"] if dep.startswith("stages/"))
    }


def test_a_change_makes_no_more_stale_than_it_concerns() -> None:
    assert stale_after("exporting/model_card.py") == {"export"}
    assert stale_after("evaluation/metrics.py") == {"evaluate", "report", "export"}
    assert not {"train", "baselines"} & stale_after("data/external_formats.py")
    assert stale_after("params.py") == set()
    assert not {"fetch_base", "fetch_pairs"} & stale_after("data/readers.py")


def test_imports_run_down_the_rooms_only() -> None:
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ROOMS)
    for height, room in enumerate(ROOMS):
        assert not (PACKAGE / room / "__init__.py").read_text(), "what is there would be imported by the scorer"
        for module in modules_below(PACKAGE / room):
            below = {*PARAMS, *(PACKAGE / name for name in ROOMS[: height + 1])}
            wrong = {path for path in imports(module) if not below & {path, path.parent}}
            assert not wrong, f"{module.relative_to(PACKAGE)} imports what stands above it"


def test_there_is_no_circle_of_imports() -> None:
    for module in modules_below(PACKAGE):
        assert module not in reached(module), module


def test_params_are_the_roots_own() -> None:
    assert imports(PACKAGE / "params.py") == {PACKAGE / "common/errors.py", PACKAGE / "param_types.py"}
    assert imports(PACKAGE / "param_types.py") == set()


def test_every_stage_says_what_it_makes() -> None:
    assert all(stage.get("desc") for stage in STAGES.values())


def leaves(params: dict[str, Any]) -> set[str]:
    return {
        f"{section}.{key}" if isinstance(values, dict) else section
        for section, values in params.items()
        for key in (values if isinstance(values, dict) else [None])
    }


def test_params_file_dataclasses_and_tracked_keys_are_the_same() -> None:
    # A new key is not committed yet; otherwise a user's own file may hold anything.
    in_file = leaves(yaml.safe_load(committed("params.yaml") or "{}"))
    sections = {name: field.type for name, field in Params.__dataclass_fields__.items()}
    in_code = {
        f"{name}.{key}" if hasattr(section, "__dataclass_fields__") else name
        for name, section in sections.items()
        for key in getattr(section, "__dataclass_fields__", [None])
    }
    tracked = {key for stage in STAGES.values() for key in stage.get("params", [])}
    in_dvc = {leaf for leaf in in_code if leaf in tracked or leaf.split(".")[0] in tracked}
    assert in_code == in_file or in_code == leaves(yaml.safe_load((ROOT / "params.yaml").read_text()))
    # `launch` is tracked as part of the train command.
    assert in_dvc | {"launch"} == in_code
    assert STAGES["train"]["cmd"].startswith("${launch} ")


def test_no_script_shadows_the_standard_library() -> None:
    assert not {path.stem for path in (ROOT / "stages").glob("*.py")} & set(sys.stdlib_module_names)


def test_stages_do_not_import_each_other_and_the_package_imports_no_stage() -> None:
    scripts = {path.stem for path in (ROOT / "stages").glob("*.py")}
    for path in (ROOT / "stages").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not scripts & {name.split(".")[0] for name in names}, path


def test_metrics_are_in_git_data_and_models_in_the_cache_and_nothing_persists() -> None:
    for stage in STAGES.values():
        for entry in [*stage.get("metrics", []), *stage.get("outs", [])]:
            path, options = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
            assert options == ({"cache": False} if path.startswith("metrics/") else {}), path


def test_every_plot_draws_columns_that_the_data_has(trained: Project) -> None:
    for plot in PLOTS:
        [options] = plot.values()
        by_set = str(options.get("template", "")).startswith("sets")
        for path, columns in options["y"].items():
            rows = trained.read(path)
            wanted = {options["x"], *([columns] if isinstance(columns, str) else columns)}
            assert all(wanted <= set(row) for row in rows)
            assert len({tuple(row) for row in rows}) == 1, "DVC draws nothing of rows with different keys"
            assert not by_set or {"heldout", "mt_bench_human"} <= {row["set"] for row in rows}


SMALL = {
    "data": {"max_samples": 40, "heldout_fraction": 0.02, "validation_fraction": 0.01},
    "tokenize": {"max_length": 128},
    "train": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
    "evaluate": {"common_sense_pairs": 4, "explained_pairs": 1},
}


def small_project(folder: Path) -> Path:
    """A copy of the project's files in a new repository, with params for a short run."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.strip("\0").split("\0"):
        if (ROOT / name).exists() and not name.startswith("metrics/") and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    params = deepcopy(DEFAULTS)
    for section, changes in SMALL.items():
        params[section] |= changes
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", ".")
    run(folder, "git", "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "start")
    return folder


def run(folder: Path, *command: str) -> str:
    """What a command that must succeed prints."""
    result = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def kill_repro_when(folder: Path, sign: str, delay: float = 0) -> None:
    """Start `dvc repro` and end it with all its children, without warning, once a file like `sign` is there."""
    process = subprocess.Popen(
        [*DVC, "repro"], cwd=folder, env=ENVIRONMENT, start_new_session=True, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not list(folder.glob(sign)):
        assert process.poll() is None, "dvc repro ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(delay)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_the_whole_pipeline_on_the_real_base(tmp_path: Path) -> None:
    """Killed while it writes the base and while it trains, then completed, then scored with."""
    project = small_project(tmp_path / "project")
    kill_repro_when(project, "models/.base.*.tmp")
    assert not (project / "models/base").exists()
    kill_repro_when(project, "metrics/tokens.json", delay=12)
    assert not (project / "models/reward").exists()
    run(project, *DVC, "repro")
    assert not list(project.glob("*/.*.tmp"))
    for name in ("data", "tokens", "train", "eval"):
        assert (project / f"metrics/{name}.json").exists()
    assert "Data and pipelines are up to date." in run(project, *DVC, "repro")
    assert "heldout" in run(project, *DVC, "metrics", "show")
    # Large files are links into DVC's cache, not copies.
    for name in ("base", "reward", "export"):
        weights = project / f"models/{name}/model.safetensors"
        assert weights.is_symlink() or weights.stat().st_nlink > 1
    prompt = "What is the capital of France?"
    answers = ["--response_a", "The capital of France is Paris.", "--response_b", "of of of of of"]
    printed = run(project, sys.executable, "stages/score.py", "--prompt", prompt, *answers)
    assert "margin" in printed
