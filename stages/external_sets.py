"""Encode external evaluation sets: evaluate.sets_path, evaluate.hub_sets → data/external_sets.

    python stages/external_sets.py

MT-Bench's human judgements are always among them, and so is common_sense: chosen responses of held-out prompts, or
their first sentences, against degenerate ones. A set that cannot be had, or that holds no pair, is skipped with a line;
metrics/external_sets.json has the reason.
"""

import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from reward_model.common.errors import UserError, run
from reward_model.common.files import new_folder, read_jsonl, stream_jsonl, write_json, write_jsonl
from reward_model.common.tables import write_parquet
from reward_model.contract.chat_template import TemplateRefuses
from reward_model.contract.encoder import Encoder
from reward_model.data.degenerate import common_sense_pairs
from reward_model.data.evaluation_sets import HELDOUT
from reward_model.data.external_formats import ExternalPair, parse_external_set
from reward_model.data.hub import download_dataset
from reward_model.data.pairs import Pair, describe_skipped
from reward_model.data.readers import ReadReport, find_files, read_rows
from reward_model.data.sources import add_rejects
from reward_model.data.splits import SPLITS
from reward_model.data.tokens import SAME_TOKENS, count_cuts, encode_pairs, has_equal_sides
from reward_model.params import EvaluateParams, load_params

SEEN = ("train", "validation")  # splits whose prompts the model, or its temperature, was fitted on
COMMON_SENSE = "common_sense"
CHARACTERS_PER_TOKEN = 3  # at least, in most texts
MT_BENCH = Path("data/raw/mt_bench_human.jsonl")


def main() -> None:
    params = load_params().evaluate
    encoder = Encoder.load(Path("data/tokens/tokenizer"))
    trained_on = {
        Pair.from_record(row).prompt_id for name in SEEN for row in stream_jsonl(Path(f"data/pairs/{name}.jsonl"))
    }
    counts: dict[str, Any] = {"sets": {}, "skipped": {}}
    with new_folder(Path("data/external_sets")) as folder, tempfile.TemporaryDirectory() as downloads:
        for name, source in sources(params, encoder.contract.max_length, Path(downloads)):
            try:
                if name in SPLITS or name in counts["sets"]:
                    raise UserError("the name is taken: rename the file")
                path = source if isinstance(source, Path) else source.download()
                counts["sets"][name] = encode_set(name, path, encoder, trained_on, folder)
                print(summary(name, counts["sets"][name]))
            except UserError as error:
                counts["skipped"][name] = str(error)
                print(f"{name}: skipped: {error}")
    write_json(Path("metrics/external_sets.json"), counts)


class HubSet:
    """A data set of the hub, as `NAME`, `NAME:SPLIT` or `NAME:CONFIG:SPLIT`; NAME may have `@REVISION` after it."""

    def __init__(self, text: str, folder: Path) -> None:
        place, *config, split = text.split(":") if ":" in text else (text, "train")
        self.dataset, _, revision = place.partition("@")
        self.revision, self.split = revision or "main", split
        self.config = config[0] if config else None
        self.name = text.replace("/", "--").replace("@", "--").replace(":", "--")
        self.target = folder / f"{self.name}.parquet"

    def download(self) -> Path:
        """Download it.

        Raises:
            UserError: it cannot be had.
        """
        try:
            download_dataset(self.dataset, self.split, self.revision, self.target, self.config)
        except UserError as error:
            print(f"{self.name}: {error}")
            # No more than this, since it is tracked: what the library says differs from machine to machine.
            raise UserError("it cannot be downloaded; `dvc repro -f external_sets` tries again") from None
        return self.target


def sources(params: EvaluateParams, max_length: int, folder: Path) -> Iterator[tuple[str, Path | HubSet]]:
    """MT-Bench, common sense and the sets that are asked for, by name: a file each, or a data set of the hub.

    Args:
        params: the section of params.yaml.
        max_length: of the contract, in tokens.
        folder: for files that are made or downloaded.
    """
    yield MT_BENCH.stem, MT_BENCH
    if params.common_sense_pairs:
        yield COMMON_SENSE, write_common_sense(params.common_sense_pairs, max_length, folder)
    found = find_files(params.sets_path, "evaluate.sets_path")
    if note := found.unread_note():
        print(note)
    for file in found.files:
        yield file.name.split(".")[0], file
    for text in params.hub_sets:
        hub_set = HubSet(text, folder)
        yield hub_set.name, hub_set


def write_common_sense(per_kind: int, max_length: int, folder: Path) -> Path:
    """Write the set of common sense, made from the held-out pairs."""
    heldout = [Pair.from_record(row) for row in read_jsonl(Path(f"data/pairs/{HELDOUT}.jsonl"))]
    pairs = common_sense_pairs(heldout, per_kind, max_length * CHARACTERS_PER_TOKEN, seed=0)
    path = folder / f"{COMMON_SENSE}.jsonl"
    write_jsonl(path, (pair.to_record() for pair in pairs))
    return path


def encode_set(name: str, path: Path, encoder: Encoder, trained_on: set[str], folder: Path) -> dict[str, Any]:
    """Write the pairs of one set whose prompts were not trained on, as text and as token ids, and count them.

    Raises:
        UserError: the file cannot be read, or holds no pair.
    """
    report = ReadReport()
    row_format, pairs, parsed = parse_external_set(read_rows(path, report), name)
    kept: list[ExternalPair] = []
    rows, cuts = [], []
    for _, group in groupby(pairs, key=lambda item: item.row):
        items = list(group)
        first = items[0].pair
        if first.prompt_id in trained_on:
            parsed.reject("prompt_trained_on", first.to_record())
            continue
        try:
            encoded_rows, encoded = encode_pairs(encoder, [item.pair for item in items])
        except TemplateRefuses as refusal:
            parsed.reject(refusal.reason, first.to_record())
            continue
        if any(map(has_equal_sides, encoded_rows)):  # the row's other pairs alone are another task
            parsed.reject(SAME_TOKENS, first.to_record())
            continue
        kept += items
        rows += [{**row, **item.places, "format": row_format} for item, row in zip(items, encoded_rows, strict=True)]
        cuts.append(encoded)
    for line in [*parsed.first_rejects(), *report.first_rejects()]:
        print(f"{name}: {line}")
    add_rejects(parsed, report)
    counts = {**parsed.counts(), "kept": len(kept), "format": row_format, **count_cuts(cuts)}
    if not kept:
        reasons = describe_skipped(counts["skipped"]) if counts["skipped"] else "it is empty"
        raise UserError(f"no pair in it: {reasons}")
    write_jsonl(folder / f"{name}.jsonl", (item.to_record() for item in kept))
    write_parquet(folder / f"{name}.parquet", rows)
    return counts


def summary(name: str, counts: dict[str, Any]) -> str:
    """A set's counts for people."""
    skipped = describe_skipped(counts["skipped"])
    return f"{name}: {counts['kept']} pairs of {counts['rows']} rows ({counts['format']}); skipped: {skipped}"


if __name__ == "__main__":
    run(main)
