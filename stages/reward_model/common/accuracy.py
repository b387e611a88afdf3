"""The one rule for ties."""

from reward_model.evaluation.bootstrap import FloatArray


def pair_accuracy(differences: FloatArray) -> FloatArray:
    """1 where chosen is ahead, 0 where rejected is, one half for a tie."""
    return (differences > 0) + 0.5 * (differences == 0)
