"""Look at preference data before anything is trained on them: nothing is written.

    python stages/prepare.py --inspect FILE

FILE is a file, a folder or a pattern; the columns are those of params.yaml, of one of data.sources its own. The first
rows of each file are read, and some shown as the model would see them, if models/base is there (`dvc repro
fetch_base`).
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

import reward_model.common.environment  # noqa: F401
from reward_model.cli.terminal import make_console, make_table
from reward_model.common.errors import UserError, run
from reward_model.common.messages import Row
from reward_model.common.paths import absolute
from reward_model.contract.base_tokenizer import contract_encoder
from reward_model.contract.chat_template import TemplateRefuses
from reward_model.contract.encoder import EncodedResponses, Encoder, shared_prefix_length
from reward_model.data.pair_reader import PairReader, columns_of
from reward_model.data.pairs import Pair, ParsedPairs, describe_skipped, parse_pairs
from reward_model.data.quality import measure_quality, quality_rows, quality_warnings, unbalanced_labels
from reward_model.data.readers import DataFiles, ReadReport, find_files, read_rows
from reward_model.data.sources import add_rejects, params_of_sources
from reward_model.data.splits import split_pairs
from reward_model.data.tokens import (
    SAME_TOKENS,
    TokenRow,
    count_cuts,
    encode_pairs,
    has_equal_sides,
    lost_prompts_warning,
)
from reward_model.params import DataParams, load_params

BASE = Path("models/base")
ROWS = 2000  # read at most, from the beginning of each file, which has its share of them
SHOWN = 5  # comparisons
CHARACTERS = 700  # of each text that is shown
# Control characters as their pictures, all but tab and line feed, so that no text moves the cursor.
PICTURES = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {127: 0x2421}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE")
    console = make_console()
    file = parser.parse_args().file
    pairs_of = read_pairs(file, console)
    pairs = [pair for own in pairs_of.values() for pair in own]
    if not pairs:
        raise UserError(f"{file} gives no pair; data/README.md has the formats, and a cure for each reason")
    prompts = len({pair.prompt_id for pair in pairs})
    console.print(f"{prompts} prompts; ties: {sum(pair.is_tie for pair in pairs)}")
    print_quality(pairs, console)
    if not (BASE / "config.json").exists():
        console.print(f"\n{BASE} is not there, so tokens are not shown: run `dvc repro fetch_base`")
        return
    with tempfile.TemporaryDirectory() as folder:
        encoder = contract_encoder(BASE, load_params().tokenize.max_length, Path(folder))
        print_tokens(encoder, pairs_of, console)


def read_pairs(file: str, console: Console) -> dict[str, list[Pair]]:
    """The pairs of the first rows, by file; says what was found, and what not read.

    Raises:
        UserError: nothing can be read, or which response is better is unclear.
    """
    report = ReadReport()
    found = find_files(file, "--inspect")
    params = load_params().data
    source = find_source(found.files, params)
    data = source or params
    reader = PairReader(columns_of(data), found.name, keep_ties=data.keep_ties)
    rows_of, is_sample = first_rows(found, report)
    parsed, pairs_of = parse_files(rows_of, reader)
    add_rejects(parsed, report)
    counts = parsed.counts()
    console.print(Text(f"{file}: {describe_files(rows_of, is_sample=is_sample)}", "bold"))
    columns = source and f"columns: those of {source.path} in data.sources"
    lines = [columns, found.unread_note(), found.splits_warning(), *reader.notes(), *parsed.first_rejects()]
    console.print(*filter(None, lines), sep="\n")
    console.print(
        f"{counts['rows']} rows, {counts['kept']} pairs kept; skipped: {describe_skipped(counts['skipped'])}",
    )
    reader.check(parsed)
    for line in unbalanced_labels({"labels": reader.labels}):
        console.print(Text(f"warning: {line}", "yellow"))
    empty = [name for name, own in pairs_of.items() if not own]
    if empty and parsed.pairs:
        more = f" and {len(empty) - SHOWN} more" if len(empty) > SHOWN else ""
        console.print(Text(f"warning: no pair is kept of {', '.join(empty[:SHOWN])}{more}", "yellow"))
    return pairs_of


def first_rows(found: DataFiles, report: ReadReport) -> tuple[dict[str, list[Row]], bool]:
    """The first rows of each file, and whether there are more. What a short file leaves is shared by those after it."""
    rows_of, left, is_sample = dict[str, list[Row]](), ROWS, False
    if not found.files:
        next(read_rows(found), None)  # says so
    for number, file in enumerate(found.files):
        share = max(1, left // (len(found.files) - number))
        rows = list(islice(read_rows(replace(found, files=[file]), report), share + 1))
        is_sample |= len(rows) > share
        rows_of[str(file)] = rows[:share]
        left -= len(rows[:share])
    return rows_of, is_sample


def describe_files(rows_of: Mapping[str, Sequence[Row]], *, is_sample: bool) -> str:
    """How many files there are, and what is read of them if not all is."""
    rows = sum(map(len, rows_of.values()))
    if len(rows_of) == 1:
        return "1 file" + is_sample * f", of which the first {rows} rows are read"
    return f"{len(rows_of)} files" + is_sample * f", of each of which the first rows are read, {rows} in all"


def parse_files(
    rows_of: Mapping[str, Sequence[Row]], reader: PairReader
) -> tuple[ParsedPairs[Pair], dict[str, list[Pair]]]:
    """What becomes of all rows, and the pairs kept of each file."""
    file_by_id, current = dict[str, str](), ""

    def rows() -> Iterator[Row]:
        nonlocal current
        for file, own in rows_of.items():
            current = file
            yield from reader.expand(own)

    def to_pair(row: Row) -> Pair:
        pair = reader.to_pair(row)
        file_by_id.setdefault(pair.id, current)
        return pair

    parsed = parse_pairs(rows(), to_pair)
    pairs_of: dict[str, list[Pair]] = {file: [] for file in rows_of}
    for pair in parsed.pairs:
        pairs_of[file_by_id[pair.id]].append(pair)
    return parsed, pairs_of


def find_source(files: Sequence[Path], data: DataParams) -> DataParams | None:
    """The params of the first of data.sources that reads all these files."""
    wanted = set(map(absolute, files))
    for source in params_of_sources(data.sources or [], data):
        with suppress(UserError):  # it need not be there yet
            if wanted <= set(map(absolute, find_files(source.path).files)):
                return source
    return None


def print_quality(pairs: Sequence[Pair], console: Console) -> None:
    """What the pairs look like, split as prepare would split them; what spoils a model is a warning."""
    data = load_params().data
    splits = split_pairs(
        pairs, validation_fraction=data.validation_fraction, heldout_fraction=data.heldout_fraction, seed=data.seed
    )
    empty = [name for name, own in splits.items() if not own]
    sizes = ", ".join(f"{len(own)} {name}" for name, own in splits.items())
    if not splits["train"]:
        sizes += ": none to train on, so figures of all"
        splits = {"train": pairs}
    quality = measure_quality(splits)
    console.print("", Text(f"of these pairs, split by prompt into {sizes}", "bold"), sep="\n")
    table = make_table("training pairs", "share", numbers=("share",))
    for row in quality_rows(quality):
        table.add_row(*row)
    console.print(table)
    for line in quality_warnings(quality):
        console.print(Text(f"warning: {line}", "yellow"))
    if empty:
        console.print(Text(f"warning: too few prompts to train with: no pairs for {', '.join(empty)}", "yellow"))


def print_tokens(encoder: Encoder, pairs_of: Mapping[str, Sequence[Pair]], console: Console) -> None:
    """Lengths in tokens, what would be cut or left out, and some comparisons as the model will see them."""
    rows, encoded, left_out = encode_all(encoder, [pair for own in pairs_of.values() for pair in own])
    lengths = [len(row[side]) for row in rows for side in ("chosen_ids", "rejected_ids")]
    cuts = count_cuts(encoded)
    if lengths:
        middle, most = np.quantile(lengths, [0.5, 0.95])
        console.print(
            f"tokens of a prompt with a response: median {middle:.0f}, 95% up to {most:.0f}, longest {max(lengths)}"
        )
    console.print(
        f"cut to fit {encoder.contract.max_length} tokens: {cuts['prompts_cut']} prompts, {cuts['responses_cut']} "
        "responses"
    )
    if warning := lost_prompts_warning(cuts, encoder.contract.max_length):
        console.print(Text(f"warning: {warning}", "yellow"))
    if reduced := cuts["responses_reduced_by_template"]:
        console.print(f"the chat template drops a part of {reduced} responses")
    console.print(f"left out: {describe_skipped(left_out)}")
    kept = {row["id"] for row in rows}
    print_comparisons(
        encoder, {file: [pair for pair in own if pair.id in kept] for file, own in pairs_of.items()}, console
    )


def print_comparisons(encoder: Encoder, pairs_of: Mapping[str, Sequence[Pair]], console: Console) -> None:
    """The first comparison of each file, then the second of each, and so on."""
    groups = [[(file, pair) for pair in own] for file, own in pairs_of.items()]
    in_turn = (item for turn in zip_longest(*groups) for item in turn if item is not None)
    shown = list(islice(in_turn, SHOWN))
    for number, (file, pair) in enumerate(shown, 1):
        place = f" ({file})" if len(pairs_of) > 1 else ""
        console.print("", Text(f"comparison {number}, as the model sees it{place}", "bold"), sep="\n")
        for name, ids in parts(encoder, pair).items():
            text = encoder.tokenizer.decode(ids, skip_special_tokens=False)
            console.print(Text(f"{name}: ", "cyan") + Text(shorten(text)))
    if more := sum(map(bool, groups)) - len({file for file, _ in shown}):
        console.print(f"\nof {more} more files no comparison is shown: give --inspect one of them")


def encode_all(
    encoder: Encoder, pairs: Sequence[Pair]
) -> tuple[list[TokenRow], list[EncodedResponses], dict[str, int]]:
    """Rows of data/tokens, what was cut, and how many pairs would be left out for each reason."""
    rows, encoded, left_out = list[TokenRow](), list[EncodedResponses](), dict[str, int]()
    for pair in pairs:
        try:
            [row], of_pair = encode_pairs(encoder, [pair])
        except TemplateRefuses as refusal:
            reason = f"{refusal.reason} ({refusal})"
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        encoded.append(of_pair)
        if has_equal_sides(row):
            left_out[SAME_TOKENS] = left_out.get(SAME_TOKENS, 0) + 1
        else:
            rows.append(row)
    return rows, encoded, left_out


def parts(encoder: Encoder, pair: Pair) -> dict[str, list[int]]:
    """The token ids of the prompt, with what opens an answer, and of each response."""
    # Two more, that begin otherwise: an empty one would do, but templates may refuse it.
    ids = encoder.encode(pair.prompt, [pair.chosen, pair.rejected, "x", "y"]).ids
    length, (chosen, rejected) = shared_prefix_length(ids), ids[:2]
    return {"prompt": chosen[:length], "chosen": chosen[length:], "rejected": rejected[length:]}


def shorten(text: str) -> str:
    """The text without what moves the cursor, and without its middle if it is long."""
    half = CHARACTERS // 2
    if len(text) > CHARACTERS:
        text = f"{text[:half]} [… {len(text) - 2 * half} characters …] {text[-half:]}"
    return text.translate(PICTURES)


if __name__ == "__main__":
    run(main)
