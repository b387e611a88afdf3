"""Turn pairs into token ids under the scoring contract: data/pairs → data/tokens, metrics/tokens.json.

    python stages/tokenize_pairs.py

data/tokens/tokenizer is the tokenizer with its contract, which goes on with the model.
"""

from pathlib import Path
from statistics import mean
from typing import Any

import reward_model.common.environment  # noqa: F401
from reward_model.common.errors import UserError, run
from reward_model.common.files import new_folder, read_jsonl, write_json
from reward_model.common.tables import write_parquet
from reward_model.contract.base_tokenizer import contract_encoder
from reward_model.contract.chat_template import TemplateRefuses
from reward_model.contract.encoder import Encoder
from reward_model.data.degenerate import DEGENERATE
from reward_model.data.pairs import Pair
from reward_model.data.splits import SPLITS
from reward_model.data.tokens import TokenRow, count_cuts, encode_pairs
from reward_model.params import load_params


def main() -> None:
    max_length = load_params().tokenize.max_length
    counts: dict[str, Any] = {"max_length": max_length}
    with new_folder(Path("data/tokens")) as folder:
        encoder = contract_encoder(Path("models/base"), max_length, folder / "tokenizer")
        for name in (*SPLITS, DEGENERATE):
            rows, counts[name] = encode_split(encoder, name)
            write_parquet(folder / f"{name}.parquet", rows)
            print(summary(name, counts[name]))
    write_json(Path("metrics/tokens.json"), counts)


def encode_split(encoder: Encoder, name: str) -> tuple[list[TokenRow], dict[str, Any]]:
    """The rows of a split's pairs that the chat template takes, with counts: pairs, their mean tokens, what was cut.

    Raises:
        UserError: the template refuses all of them.
    """
    rows: list[TokenRow] = []
    cuts, refused = [], []
    for record in read_jsonl(Path("data/pairs") / f"{name}.jsonl"):
        try:
            encoded_rows, encoded = encode_pairs(encoder, [Pair.from_record(record)])
        except TemplateRefuses as reason:
            refused.append(str(reason))
            continue
        rows += encoded_rows
        cuts.append(encoded)
    if refused and not rows:
        raise UserError(f"the base's chat template refuses every {name} pair: {refused[0]}")
    tokens = mean(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows) if rows else 0.0
    counts = {"pairs": len(rows), "tokens_per_pair": tokens, "refused_by_template": len(refused), **count_cuts(cuts)}
    return rows, counts


def summary(name: str, counts: dict[str, Any]) -> str:
    """A set's counts for people."""
    return (
        f"{name}: {counts['pairs']} pairs, {counts['tokens_per_pair']:.0f} tokens each; cut to fit: "
        f"{counts['prompts_cut']} prompts, {counts['responses_cut']} responses"
    )


if __name__ == "__main__":
    run(main)
