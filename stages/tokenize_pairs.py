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
from reward_model.contract.encoder import EncodedResponses, Encoder
from reward_model.data.pairs import Pair, token_row
from reward_model.params import load_params

SETS = ("train", "validation", "test", "mt_bench_human")


def main() -> None:
    max_length = load_params().tokenize.max_length
    counts: dict[str, Any] = {"max_length": max_length}
    with new_folder(Path("data/tokens")) as folder:
        encoder = contract_encoder(Path("models/base"), max_length, folder / "tokenizer")
        for name in SETS:
            pairs = [Pair.from_record(row) for row in read_jsonl(Path("data/pairs") / f"{name}.jsonl")]
            encoded, refused = encode_pairs(encoder, pairs)
            if not encoded:
                raise UserError(f"the base's chat template refuses every {name} pair: {refused[0]}")
            write_parquet(folder / f"{name}.parquet", [token_row(pair, *item.ids) for pair, item in encoded])
            counts[name] = {**describe([item[1] for item in encoded]), "refused_by_template": len(refused)}
            print(summary(name, counts[name]))
    write_json(Path("metrics/tokens.json"), counts)


def encode_pairs(encoder: Encoder, pairs: list[Pair]) -> tuple[list[tuple[Pair, EncodedResponses]], list[str]]:
    """Encode the pairs that the chat template takes, and tell why it refused the others."""
    encoded, refused = [], []
    for pair in pairs:
        try:
            encoded.append((pair, encoder.encode(pair.prompt, [pair.chosen, pair.rejected])))
        except TemplateRefuses as reason:
            refused.append(str(reason))
    return encoded, refused


def describe(encoded: list[EncodedResponses]) -> dict[str, Any]:
    """Pairs, their mean tokens (both sides), and how many lost tokens of the prompt or of a response to max_length."""
    return {
        "pairs": len(encoded),
        "tokens_per_pair": mean(sum(map(len, item.ids)) for item in encoded),
        "prompts_cut": sum(item.prompt_tokens_cut > 0 for item in encoded),
        "prompt_tokens_cut": sum(item.prompt_tokens_cut for item in encoded),
        "responses_cut": sum(cut > 0 for item in encoded for cut in item.response_tokens_cut),
        "response_tokens_cut": sum(sum(item.response_tokens_cut) for item in encoded),
    }


def summary(name: str, counts: dict[str, Any]) -> str:
    """A set's counts for people."""
    return (
        f"{name}: {counts['pairs']} pairs, {counts['tokens_per_pair']:.0f} tokens each; cut to fit: "
        f"{counts['prompts_cut']} prompts, {counts['responses_cut']} responses"
    )


if __name__ == "__main__":
    run(main)
