"""The base, ready to compute features of sets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reward_model.common.tables import read_parquet
from reward_model.contract.encoder import Encoder
from reward_model.data.features import PairFeatures
from reward_model.modeling.batching import pairs_to_groups
from reward_model.modeling.depth import available_depths, kept_depth
from reward_model.modeling.head import keeps_head
from reward_model.modeling.model import build_reward_model
from reward_model.params import Params
from reward_model.scoring.inference import compute_features, prepare_for_scoring

BATCH_SIZE = 4  # groups; another one rounds otherwise


class BaseFeatures:
    """The untrained base on its device."""

    def __init__(self, params: Params, base: Path, tokens: Path) -> None:
        """Load it.

        Args:
            params: `train.layers`, `train.head_init`, `train.device` and `train.precision` count.
            base: its folder.
            tokens: data/tokens.

        Raises:
            UserError: as `build_reward_model` and `prepare_for_scoring`.
        """
        encoder = Encoder.load(tokens / "tokenizer")
        groups = pairs_to_groups(read_parquet(tokens / "train.parquet"))
        self.model = build_reward_model(base, encoder, seed=0)
        available = available_depths(self.model)
        wanted = None if keeps_head(base, params.train.head_init) else params.train.layers
        kept = kept_depth(wanted, available)
        if kept != max(available):  # what lies above is not trained, so it is not computed here either
            self.model = build_reward_model(base, encoder, seed=0, layers=kept)
        self.depths = sorted({*(depth for depth in available if depth < kept), kept})
        self.pad_token_id = encoder.contract.pad_token_id
        prepare_for_scoring(self.model, groups, self.pad_token_id, params.train.device, params.train.precision)

    def compute(self, rows: Sequence[Mapping[str, Any]], name: str) -> PairFeatures:
        """The features of a set's rows at all depths."""
        return compute_features(self.model, rows, self.pad_token_id, BATCH_SIZE, self.depths, f"features of {name}")
