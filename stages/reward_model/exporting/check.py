"""Whether an exported artefact gives the rewards of the trained model, as a fresh process finds it.

python -m reward_model.exporting.check MODEL PAIRS BACKEND [BASE]      prints the rewards of the pairs, as JSON
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reward_model.common.errors import UserError, run
from reward_model.common.files import read_jsonl
from reward_model.contract.encoder import Encoder
from reward_model.evaluation.calibration import Calibration

if TYPE_CHECKING:
    from reward_model.scoring.scorer import Scorer

PAIRS = 100  # held-out pairs that are compared
EXACT = 1e-4  # float32: no reward may differ by more
SAME_PREFERENCES = 0.98  # less precise artefacts: the share of pairs whose preference must stay

Rewards = list[tuple[float, float]]  # of chosen and rejected


@dataclass(frozen=True)
class ArtefactCheck:
    """An artefact beside the trained model.

    Attributes:
        pairs: held-out pairs that were scored.
        max_abs_diff: the largest difference between two rewards.
        preference_agreement: share of the pairs in which the same response is ahead.
        bytes: size of its weights.
    """

    pairs: int
    max_abs_diff: float
    preference_agreement: float
    bytes: int


def score_in_new_process(model: Path, pairs: Path, backend: str, base: Path | None = None) -> Rewards:
    """The rewards that a fresh process gives the first pairs of a file of `data/pairs`, computed in float32.

    Args:
        model: a trained or exported model.
        pairs: the file.
        backend: torch, onnx, or adapter: the model's adapter on its base.
        base: the base, for an adapter.

    Raises:
        UserError: the model cannot be loaded.
    """
    arguments = [str(model.resolve()), str(pairs.resolve()), backend, *([str(base.resolve())] if base else [])]
    result = subprocess.run(
        [sys.executable, "-m", "reward_model.exporting.check", *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        said = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        raise UserError(f"the export cannot be loaded ({backend}): {said[-1]}")
    found = [(chosen, rejected) for chosen, rejected in json.loads(result.stdout)]
    if not found:
        raise UserError(f"no pair of {pairs} can be scored to check the export")
    return found


def compare(found: Rewards, expected: Rewards, size: int) -> ArtefactCheck:
    """Measure an artefact's rewards against the trained model's."""
    differences = [
        abs(a - b) for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True)
    ]
    same = [_ahead(one) == _ahead(other) for one, other in zip(found, expected, strict=True)]
    return ArtefactCheck(len(found), max(differences), sum(same) / len(same), size)


def require(name: str, check: ArtefactCheck, *, exact: bool) -> None:
    """Refuse an artefact that is too far off.

    Raises:
        UserError: a reward in float32 differs by more than 1e-4, or in less precision over 2% of the preferences do,
            and more than one.
    """
    if exact:
        if check.max_abs_diff > EXACT:
            raise UserError(
                f"{name}: rewards differ by up to {check.max_abs_diff:.2g} from the trained model's: not exported"
            )
        return
    differing = round((1 - check.preference_agreement) * check.pairs)
    if differing > max(1, (1 - SAME_PREFERENCES) * check.pairs):
        raise UserError(
            f"{name}: only {check.preference_agreement:.0%} of the preferences are the trained model's, "
            f"{SAME_PREFERENCES:.0%} are wanted: choose a more precise export"
        )


def _ahead(rewards: Sequence[float]) -> bool:
    chosen, rejected = rewards
    return chosen > rejected


def _load(model: str, backend: str) -> "Scorer":
    from reward_model.scoring.manager import RewardModelManager

    manager = RewardModelManager(device="cpu", backend=backend)
    manager.load_trained_model(model)
    return manager.scorer


def _load_adapter(model: str, base: str) -> "Scorer":
    from reward_model.exporting.adapter_backend import AdapterBackend
    from reward_model.scoring.scorer import Scorer

    return Scorer(AdapterBackend(Path(model), Path(base)), Encoder.load(Path(model)), Calibration(), 1, "")


def main() -> None:
    model, pairs, backend, *base = sys.argv[1:]
    scorer = _load_adapter(model, *base) if backend == "adapter" else _load(model, backend)
    found: Rewards = []
    for pair in read_jsonl(Path(pairs)):
        with suppress(UserError):  # the tokenize stage counts the pairs that the chat template refuses
            encoded = scorer.encode(pair["prompt"], [pair["chosen"], pair["rejected"]])
            [(chosen, rejected)] = scorer.rewards([encoded.ids])
            found.append((chosen, rejected))
        if len(found) == PAIRS:
            break
    print(json.dumps(found))


if __name__ == "__main__":
    run(main)
