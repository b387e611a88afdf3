"""What the stages share: the pair record, the scoring contract, the model, the metrics."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reward_model.scoring.manager import RewardModelManager as RewardModelManager

__all__ = ["RewardModelManager"]


def __getattr__(name: str) -> Any:
    """Import the Python API on first use: it needs torch, which a stage that only reads files does not."""
    if name == "RewardModelManager":
        from reward_model.scoring.manager import RewardModelManager

        return RewardModelManager
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
