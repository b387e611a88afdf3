"""Make validated, deduplicated, leak-free splits: data/raw (or data.path) → data/pairs, metrics/data.json.

    python stages/prepare.py
    python stages/prepare.py --inspect FILE     shows what would be read of it, and writes nothing

data/pairs holds train, validation and heldout; degenerate: responses made to be rejected, for the training prompts; and
rejects: every row that gave no pair, with the reason. For the sample, judges: what other models say of its pairs.
"""

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from reward_model.cli.terminal import make_console, make_table
from reward_model.common.accuracy import pair_accuracy
from reward_model.common.disk_list import DiskList
from reward_model.common.errors import InvalidRow, UserError, run
from reward_model.common.files import PROVENANCE_FILE, new_folder, write_json, write_jsonl
from reward_model.common.messages import Message, Row
from reward_model.common.paths import absolute, expand_home
from reward_model.common.progress import progress
from reward_model.data.degenerate import DEGENERATE, count_kinds, training_pairs
from reward_model.data.pair_reader import PairReader, columns_of, pair_from_row
from reward_model.data.pair_store import PairStore, StoredPair
from reward_model.data.pairs import Pair, PairLike, ParsedPairs, checked_pair, describe_skipped, parse_pairs
from reward_model.data.quality import dominant_prompts, measure_quality, quality_warnings, unbalanced_labels
from reward_model.data.readers import ReadReport, find_files, read_rows
from reward_model.data.row_formats import Columns
from reward_model.data.sources import Mixture, add_rejects, limit_per_prompt, params_of_sources
from reward_model.data.splits import choose_pairs, split_pairs
from reward_model.params import DataParams, DataSource, load_params

RAW = Path("data/raw")
MAX_FILES = 20  # listed in the metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inspect", metavar="FILE", help="show what would be read of a file, folder or pattern")
    file = parser.parse_args().inspect
    if file is None:
        prepare(load_params().data)
    else:  # by a script of its own: this stage does not depend on the tokenizer
        script = Path(__file__).with_name("inspect_pairs.py")
        raise SystemExit(subprocess.run([sys.executable, script, file], check=False).returncode)


def prepare(data: DataParams) -> None:
    """Make data/pairs and metrics/data.json."""
    if not RAW.exists():
        raise UserError(f"{RAW} is missing: run `dvc repro fetch_pairs`")
    key = "data.path" if data.sources is None else "data.sources"
    store = PairStore()
    sources = [parse_source(source, key, store) for source in single_sources(data)]
    parsed, mixture = sources[0][0], None
    if data.sources is not None and data.source == "path":
        mixture = join_sources(data.sources, [own for own, _ in sources])
        parsed = mixture.parsed
    mt_bench = [pair_from_row(row, Columns(), "") for row in read_rows(RAW / "mt_bench_human.jsonl")]
    voted = parse_votes(data, store) if data.source == "sample" and data.sample_labels == "votes" else None
    splits, counts = make_splits(parsed, voted, {pair.prompt_id for pair in mt_bench}, data, mixture)
    counts["quality"] = measure_quality(splits)
    if data.source == "path":
        counts["files"] = largest_files([report.rows for _, report in sources])
    with new_folder(Path("data/pairs")) as folder:
        for name, pairs in splits.items():
            shown = progress(pairs, f"write {name}")
            write_jsonl(folder / f"{name}.jsonl", (pair.load().to_record() for pair in shown))
        counts["degenerate"] = write_degenerate(folder / f"{DEGENERATE}.jsonl", splits["train"], data)
        write_jsonl(folder / "rejects.jsonl", chain(parsed.rejects, voted.rejects if voted else ()))
        if data.source == "sample":
            write_jsonl(folder / "judges.jsonl", judge_rows(parsed.pairs))
        write_json(folder / PROVENANCE_FILE, {"params": asdict(data)})
    write_json(Path("metrics/data.json"), counts)
    warnings = [*unbalanced_labels(counts), *dominant_prompts(counts), *quality_warnings(counts["quality"])]
    print_summary(counts)
    for line in warnings:
        print(f"warning: {line}")


def write_degenerate(target: Path, train: Sequence[StoredPair], data: DataParams) -> dict[str, int]:
    """Write the degenerate pairs for training; how many there are of each kind."""
    made = DiskList[Pair]()
    made.extend(training_pairs(progress(train, "make degenerate pairs"), data.degenerate_per_prompt, data.seed))
    write_jsonl(target, (pair.to_record() for pair in made))
    return count_kinds(made)


def single_sources(data: DataParams) -> list[DataParams]:
    """The params of each source: those of `data.sources`, or else `data` itself."""
    if data.sources is None or data.source != "path":
        return [data]
    watched = absolute(expand_home(data.path))
    for own in data.sources:
        if not absolute(expand_home(own.path)).is_relative_to(watched):
            raise UserError(
                f"data.sources: {own.path} is not below data.path ({data.path}), where DVC looks for changes: move "
                "it there, or set data.path to a folder that holds all sources"
            )
    return params_of_sources(data.sources, data)


def join_sources(sources: list[DataSource], parsed: list[ParsedPairs[StoredPair]]) -> Mixture:
    """Put the pairs of `data.sources` together, and say which repeat those of another."""
    weights = [source.weight for source in sources if source.weight is not None]
    mixture = Mixture.join([source.path for source in sources], weights or None, parsed)
    repeats = ParsedPairs[StoredPair]()
    repeats.rejects.extend(islice(mixture.parsed.rejects, sum(len(own.rejects) for own in parsed), None))
    for line in repeats.first_rejects():
        print(f"between sources: {line}")
    return mixture


def parse_source(data: DataParams, key: str, store: PairStore) -> tuple[ParsedPairs[StoredPair], ReadReport]:
    """Read the pairs that `data.source` names, and say what is left out of them; `key` is where its path stands."""
    report = ReadReport()
    if data.source == "sample":
        return parse_pairs(read_rows(RAW / "sample.jsonl"), lambda row: store.add(pair_from_alpaca_eval(row))), report
    found = find_files(data.path if data.source == "path" else str(RAW / "hub.parquet"), key)
    for line in (found.unread_note(), found.splits_warning()):
        if line is not None:
            print(line)
    reader = PairReader(
        columns_of(data), found.name if data.source == "path" else data.source, keep_ties=data.keep_ties
    )
    rows = reader.expand(progress(read_rows(found, report), f"read {found.name}"))
    parsed = parse_pairs(rows, lambda row: store.add(reader.to_pair(row)))
    reader.check(parsed)
    parsed.formats, parsed.labels = dict(reader.formats), dict(reader.labels)
    for line in [*reader.notes(), *parsed.first_rejects()]:
        print(line)
    add_rejects(parsed, report)
    for line in report.first_rejects():
        print(line)
    return parsed, report


def largest_files(reports: list[dict[str, int]]) -> dict[str, int]:
    """The rows of each file; of many files, those of the largest, and of all others together."""
    files = {file: rows for report in reports for file, rows in report.items()}
    shown = sorted(files, key=lambda file: -files[file])[:MAX_FILES]
    others = sum(files.values()) - sum(files[file] for file in shown)
    return {**{file: files[file] for file in files if file in shown}, **({"others": others} if others else {})}


def parse_votes(data: DataParams, store: PairStore) -> ParsedPairs[StoredPair]:
    """The sample's pairs by the mean vote of two or more annotators, which is their preference."""
    columns = replace(Columns(), chosen="response_1", rejected="response_2", preference="preference")
    reader = PairReader(columns, "alpaca_eval", keep_ties=data.keep_ties)
    return parse_pairs(read_rows(RAW / "votes.jsonl"), lambda row: store.add(reader.to_pair(row)))


def pair_from_alpaca_eval(row: Row) -> Pair:
    """A pair on which both AI annotators agree.

    Raises:
        InvalidRow: contradiction (one annotator judged it both ways), tie, annotators_disagree; as `checked_pair`.
    """
    claude, gpt4 = row["claude"], row["gpt4"]
    if {1, 2} <= set(claude) or {1, 2} <= set(gpt4):
        raise InvalidRow("contradiction")
    if 0 in claude or 0 in gpt4:
        raise InvalidRow("tie")
    if claude != gpt4:
        raise InvalidRow("annotators_disagree")
    chosen, rejected = row[f"response_{claude[0]}"], row[f"response_{3 - claude[0]}"]
    return checked_pair([Message(role="user", content=row["prompt"])], chosen, rejected, "alpaca_eval")


def judge_rows(pairs: Iterable[PairLike]) -> Iterator[Row]:
    """Whether other models' verdicts are the labels of the sample's pairs: a row a pair, `agrees` by judge."""
    kept = {pair.id for pair in pairs}
    for row in read_rows(RAW / "sample.jsonl"):
        try:
            pair = pair_from_alpaca_eval(row)
        except InvalidRow:
            continue
        verdicts = {name: own[0] for name, own in row.get("judges", {}).items() if own in ([1], [2])}
        if pair.id in kept and verdicts:
            agrees = {name: verdict == row["claude"][0] for name, verdict in verdicts.items()}
            yield {"id": pair.id, "prompt_id": pair.prompt_id, "agrees": agrees}


def split_by_params(pairs: list[StoredPair], data: DataParams) -> dict[str, list[StoredPair]]:
    """The pairs by split."""
    return split_pairs(
        pairs,
        validation_fraction=data.validation_fraction,
        heldout_fraction=data.heldout_fraction,
        seed=data.seed,
    )


def make_splits(
    parsed: ParsedPairs[StoredPair],
    voted: ParsedPairs[StoredPair] | None,
    external_prompts: set[str],
    data: DataParams,
    mixture: Mixture | None = None,
) -> tuple[dict[str, list[StoredPair]], dict[str, Any]]:
    """Split by prompt, and limit the pairs of each split. Ties are for training alone: there is nothing to get right.

    Args:
        parsed: the pairs.
        voted: the pairs to train on, where they are others than those to evaluate on.
        external_prompts: ids of prompts that stay out of training and validation.
        data: the section of params.yaml.
        mixture: the sources of the pairs, if there are several.

    Returns:
        The pairs by split, and the counts for metrics/data.json.

    Raises:
        UserError: a split is empty.
    """
    splits = split_by_params(parsed.pairs, data)
    if voted is not None:
        splits["train"] = split_by_params(voted.pairs, data)["train"]
    before = sum(map(len, splits.values()))
    for name in ("train", "validation"):
        splits[name] = [pair for pair in splits[name] if pair.prompt_id not in external_prompts]
    leaked = before - sum(map(len, splits.values()))
    ties = {name: sum(pair.is_tie for pair in splits[name]) for name in ("validation", "heldout")}
    for name in ties:
        splits[name] = [pair for pair in splits[name] if not pair.is_tie]
    available = {name: len(pairs) for name, pairs in splits.items()}
    splits = limit_splits(splits, data, mixture)
    check_not_empty(splits, parsed, ties)
    return splits, {
        "source": data.source,
        **parsed.counts(),
        **({"votes": voted.counts()} if voted is not None else {}),
        "prompts_of_mt_bench_removed": leaked,
        **({"sources": mixture.counts(splits)} if mixture is not None else {}),
        **({"ties_not_evaluated": ties} if data.keep_ties else {}),
        "available": available,
        "splits": {name: describe(pairs) for name, pairs in splits.items()},
    }


def limit_splits(
    splits: dict[str, list[StoredPair]], data: DataParams, mixture: Mixture | None
) -> dict[str, list[StoredPair]]:
    """As many pairs of each split as the params allow; of several sources, each has its share of those to train on."""
    train = splits["train"]
    if data.max_pairs_per_prompt is not None:
        train = limit_per_prompt(train, data.max_pairs_per_prompt, data.seed)
    choose = choose_pairs if mixture is None else mixture.choose
    evaluated = {
        name: choose_pairs(splits[name], data.max_eval_samples, data.seed) for name in ("validation", "heldout")
    }
    return {"train": choose(train, data.max_samples, data.seed), **evaluated}


def check_not_empty(
    splits: dict[str, list[StoredPair]], parsed: ParsedPairs[StoredPair], ties: Mapping[str, int]
) -> None:
    """Raise a `UserError` that says which split is empty and why."""
    empty = [name for name, pairs in splits.items() if not pairs]
    if empty:
        reasons = describe_skipped(parsed.counts()["skipped"])
        if any(ties.values()):
            reasons += f"; ties, which are not evaluated: {describe_ties(ties)}"
        advice = "give more prompts, or change data.heldout_fraction and data.validation_fraction"
        raise UserError(
            f"no pairs for {', '.join(empty)}: {parsed.rows} rows gave {len(parsed.pairs)} pairs (skipped: "
            f"{reasons}); {advice if parsed.pairs else 'data/README.md has the formats'}"
        )


def describe_ties(ties: Mapping[str, int]) -> str:
    """How many ties each split would have."""
    return ", ".join(f"{number} {name}" for name, number in ties.items())


def describe(pairs: list[StoredPair]) -> dict[str, Any]:
    """Size of a split, the share of the prompt with the most pairs, and how often the longer response is chosen."""
    texts = (pair.load() for pair in pairs)
    longer = pair_accuracy(np.array([len(pair.chosen) - len(pair.rejected) for pair in texts], dtype=float))
    of_prompts = Counter(pair.prompt_id for pair in pairs)
    return {
        "pairs": len(pairs),
        "prompts": len(of_prompts),
        "largest_prompt": max(of_prompts.values()) / len(pairs),
        "longer_wins": float(longer.mean()),
    }


def print_summary(counts: dict[str, Any]) -> None:
    """The counts for people."""
    console = make_console()
    console.print(Text(f"{counts['rows']:,} rows, {counts['kept']:,} pairs kept", "bold"))
    for head, found in (("skipped because of", counts["skipped"]), ("file", counts.get("files", {}))):
        if len(found) > (head == "file"):  # a single file has all the rows
            table = make_table(head, "rows", numbers=("rows",))
            for name, rows in found.items():
                table.add_row(name, f"{rows:,}")
            console.print("", table, sep="\n")
    if "sources" in counts:
        console.print("", source_table(counts["sources"]), sep="\n")
    table = make_table("set", "pairs", "prompts", "longer is chosen", numbers=("pairs", "prompts", "longer is chosen"))
    for name, split in counts["splits"].items():
        table.add_row(name, f"{split['pairs']:,}", f"{split['prompts']:,}", f"{split['longer_wins']:.1%}")
    table.add_row(DEGENERATE, f"{sum(counts['degenerate'].values()):,}", "", "")
    console.print("", table, sep="\n")
    ties = counts.get("ties_not_evaluated", {})
    if any(ties.values()):
        console.print(f"ties, which are not evaluated: {describe_ties(ties)}")


def source_table(sources: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row a source of `data.sources`."""
    numbers = ("rows", "pairs kept", "to train on")
    table = make_table("source", *numbers, numbers=numbers)
    for path, own in sources.items():
        table.add_row(path, *(f"{own[name]:,}" for name in ("rows", "kept", "train")))
    return table


if __name__ == "__main__":
    run(main)
