"""Splits without leaks, and a choice of pairs that a larger choice contains."""

from collections import defaultdict
from collections.abc import Iterable

from reward_model.data.pairs import Pair, digest, normalize_prompt

SPLITS = ("train", "validation", "heldout")


def split_pairs(
    pairs: Iterable[Pair], *, validation_fraction: float, heldout_fraction: float, seed: int
) -> dict[str, list[Pair]]:
    """Share pairs out by a hash of the normalised prompt, so that no prompt crosses.

    A prompt's place depends on its text and the seed only: adding rows moves none of the others.
    """
    splits: dict[str, list[Pair]] = {name: [] for name in SPLITS}
    for pair in pairs:
        place = _unit_hash(str(seed), normalize_prompt(pair.prompt))
        in_heldout, in_validation = place < heldout_fraction, place < heldout_fraction + validation_fraction
        splits["heldout" if in_heldout else "validation" if in_validation else "train"].append(pair)
    return splits


def choose_pairs(pairs: Iterable[Pair], count: int, seed: int) -> list[Pair]:
    """Take up to `count` pairs, one of each prompt before a second of any, in an order fixed by the seed.

    A smaller choice is the beginning of a larger one.
    """
    by_prompt: dict[str, list[Pair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: digest(str(seed), pair.id)):
        by_prompt[pair.prompt_id].append(pair)
    turns = [(turn, digest(str(seed), key), pair) for key, own in by_prompt.items() for turn, pair in enumerate(own)]
    return [pair for _, _, pair in sorted(turns, key=lambda item: item[:2])[:count]]


def _unit_hash(*parts: str) -> float:
    """A number in [0, 1), uniform over texts."""
    return int(digest(*parts)[:13], 16) / 16**13
