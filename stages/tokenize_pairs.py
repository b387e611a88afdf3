"""Turn pairs into token ids under the scoring contract: data/pairs → data/tokens, metrics/tokens.json.

    python stages/tokenize_pairs.py

data/tokens/tokenizer is the tokenizer with its contract, which goes on with the model.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow

import reward_model.common.environment  # noqa: F401
from reward_model.cli.terminal import make_console, make_table
from reward_model.common.errors import UserError, run
from reward_model.common.files import new_folder, stream_lines, write_json
from reward_model.common.processes import available_cores, map_in_processes
from reward_model.common.progress import progress
from reward_model.common.tables import write_tables
from reward_model.contract.chat_template import TemplateRefuses, TurnDropped
from reward_model.data.degenerate import DEGENERATE
from reward_model.data.pairs import describe_skipped
from reward_model.data.splits import SPLITS
from reward_model.data.tokens import SAME_TOKENS, count_cuts, encode_lines, lost_prompts_warning, token_schema
from reward_model.params import load_params

BASE = Path("models/base")
REASONS = (SAME_TOKENS, TemplateRefuses.reason, TurnDropped.reason)  # why a pair is left out
REFUSALS_TOLD = 5  # texts of refusals, at most, the most common ones
BATCH_PAIRS = 200  # encoded at a time
MIN_PAIRS = 1000  # of a process, for which it pays to start it
MAX_PROCESSES = 8  # of about 130 MB each


def main() -> None:
    # Here, and not above, since every process that encodes imports this file: they need neither torch nor transformers.
    from reward_model.contract.base_model import require_positions
    from reward_model.contract.base_tokenizer import contract_encoder

    max_length = load_params().tokenize.max_length
    require_positions(BASE, max_length)
    counts: dict[str, Any] = {}
    refusals: dict[str, list[str]] = {}
    with new_folder(Path("data/tokens")) as folder:
        tokenizer = contract_encoder(BASE, max_length, folder / "tokenizer").folder
        for name in (*SPLITS, DEGENERATE):
            counts[name], refusals[name] = encode_split(tokenizer, name, folder / f"{name}.parquet")
    print_summary(counts, refusals)
    cuts = Counter[str]()
    for name in SPLITS:
        cuts.update({key: counts[name][key] for key in count_cuts([])})
    if warning := lost_prompts_warning(cuts, max_length):
        print(f"warning: {warning}")
    if reduced := cuts["responses_reduced_by_template"]:
        print(f"the base's chat template drops a part of {reduced} responses: the model does not see it")
    write_json(Path("metrics/tokens.json"), counts | {"max_length": max_length})


def encode_split(
    tokenizer: Path, name: str, target: Path, cores: int | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Encode the pairs of a split.

    Args:
        tokenizer: the folder of the tokenizer under the contract.
        name: of the split.
        target: the Parquet file to write.
        cores: to use at most; all, up to eight, by default. The file does not depend on it.

    Returns:
        Counts: pairs, their mean tokens, what was cut, how many pairs are left out for each reason; and what the chat
        template says of those it refuses, the most frequent first.

    Raises:
        UserError: all labelled pairs are left out.
    """
    source = Path("data/pairs") / f"{name}.jsonl"
    pairs = sum(1 for _ in stream_lines(source))
    schema = token_schema(stream_lines(source))
    processes = max(1, min(cores or available_cores(), MAX_PROCESSES, pairs // MIN_PAIRS))
    encode = partial(encode_lines, tokenizer, schema)
    counts = Counter({**count_cuts([]), "pairs": 0, "tokens": 0})
    left_out, refusals = Counter[str](), Counter[str]()

    def tables() -> Iterator[pyarrow.Table]:
        lines = progress(stream_lines(source), f"tokenize {name}", pairs)
        for batch in map_in_processes(encode, batches(lines), processes):
            counts.update(batch.counts, pairs=batch.rows.num_rows)
            left_out.update(batch.left_out)
            refusals.update(batch.refusals)
            yield batch.rows

    write_tables(target, tables(), schema)
    told = [text for text, _ in refusals.most_common(REFUSALS_TOLD)]
    if left_out and not counts["pairs"] and name != DEGENERATE:
        raise UserError(f"no {name} pair can be used: {describe_left_out(left_out, told)}; see data/README.md")
    mean_tokens = counts.pop("tokens") / max(counts["pairs"], 1)
    return {**counts, "tokens_per_pair": mean_tokens, **{reason: left_out[reason] for reason in REASONS}}, told


def batches(lines: Iterable[str]) -> Iterator[list[str]]:
    """The lines, some at a time."""
    waiting = iter(lines)
    while batch := list(islice(waiting, BATCH_PAIRS)):
        yield batch


def print_summary(counts: Mapping[str, Mapping[str, Any]], refusals: Mapping[str, Sequence[str]]) -> None:
    """The counts of each set for people, and what the template says of those that it refuses."""
    numbers = ("pairs", "tokens a pair", "prompts cut", "responses cut", "left out")
    table = make_table("set", *numbers, numbers=numbers)
    for name, own in counts.items():
        figures = [own[key] for key in ("pairs", "tokens_per_pair", "prompts_cut", "responses_cut")]
        table.add_row(name, *(f"{figure:,.0f}" for figure in (*figures, sum(own[reason] for reason in REASONS))))
    console = make_console()
    console.print(table)
    for name, own in counts.items():
        if any(own[reason] for reason in REASONS):
            console.print(f"left out of {name}: {describe_left_out(own, refusals[name])}")


def describe_left_out(counts: Mapping[str, int], refusals: Sequence[str]) -> str:
    """How many pairs are left out for each reason, and what the template says of them."""
    told = describe_skipped({reason: counts[reason] for reason in REASONS if counts[reason]})
    return f"{told} ({'; '.join(refusals)})" if refusals else told


if __name__ == "__main__":
    run(main)
