"""Splits without leaks, and a choice of pairs that a larger choice contains."""

from collections import defaultdict
from collections.abc import Iterable

from reward_model.data.pairs import AnyPair, digest, normalize_prompt

SPLITS = ("train", "validation", "heldout")


def split_pairs(
    pairs: Iterable[AnyPair], *, validation_fraction: float, heldout_fraction: float, seed: int
) -> dict[str, list[AnyPair]]:
    """Share pairs out by a hash of the normalised prompt, so that no prompt crosses.

    A prompt's place depends on its text and the seed only: adding rows moves none of the others.
    """
    splits: dict[str, list[AnyPair]] = {name: [] for name in SPLITS}
    for pair in pairs:
        place = _unit_hash(str(seed), normalize_prompt(pair.load().prompt))
        in_heldout, in_validation = place < heldout_fraction, place < heldout_fraction + validation_fraction
        splits["heldout" if in_heldout else "validation" if in_validation else "train"].append(pair)
    return splits


def choose_pairs(pairs: Iterable[AnyPair], count: int, seed: int) -> list[AnyPair]:
    """Take up to `count` pairs, one of each prompt before a second of any, in an order fixed by the seed.

    A smaller choice is the beginning of a larger one.
    """
    by_prompt: dict[str, list[AnyPair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: digest(str(seed), pair.id)):
        by_prompt[pair.prompt_id].append(pair)
    prompts = [by_prompt[key] for key in sorted(by_prompt, key=lambda key: digest(str(seed), key))]
    chosen: list[AnyPair] = []
    turn = 0
    while prompts and len(chosen) < count:
        chosen += [own[turn] for own in prompts]
        turn += 1
        prompts = [own for own in prompts if len(own) > turn]
    return chosen[:count]


def _unit_hash(*parts: str) -> float:
    """A number in [0, 1), uniform over texts."""
    return int(digest(*parts)[:13], 16) / 16**13
