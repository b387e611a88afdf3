"""Rewards as people read them: small tables with a verdict in words, in colour on a terminal.

Without rich, whose import each single reward would wait for.
"""

import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

from reward_model.evaluation.calibration import Calibration
from reward_model.reporting.clean import clean
from reward_model.scoring.prompts import Prompt
from reward_model.scoring.scorer import Comparison, RankedResponse

if TYPE_CHECKING:
    from reward_model.scoring.manager import RewardModelManager

MIN_WIDTH = 40
BOLD, DIM, GREEN = 1, 2, 32  # ANSI's codes
TURNING = dict.fromkeys(map(ord, "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f"), 0xFFFD)


def comparison_report(
    result: Comparison, responses: tuple[str, str], calibration: Calibration, unit: str = "reward"
) -> str:
    """Two rewards, or what `unit` says that they are, and which response is preferred."""
    rows = []
    for name, reward, response in zip("AB", (result.reward_a, result.reward_b), responses, strict=True):
        style = (GREEN,) if name.lower() == result.preferred else ()
        rows.append(_styled(f"{name} {reward:+9.3f}", *style) + f"  {_in_a_line(response, 13)}")
    verdict = _styled(_wrapped(_verdict(result, calibration)), BOLD)
    return "\n".join([_styled(f"   {unit:>7}  response", DIM), *rows, verdict])


def ranking_report(ranking: Sequence[RankedResponse], calibration: Calibration, unit: str = "reward") -> str:
    """Responses, the best first."""
    lines = [_styled(f"rank   {unit:>7}  over best  number  response", DIM)]
    for place, item in enumerate(ranking, 1):
        is_compared = place > 1 and item.probability is not None
        probability = f"{item.probability:.0%}" if is_compared else "-"
        figures = f"{place:>4} {item.reward:+9.3f} {probability:>10} {item.index + 1:>7}"
        response = _in_a_line(item.response, len(figures) + 2)
        lines.append(f"{_styled(figures, *([GREEN] if place == 1 else []))}  {response}")
    close = [str(item.index + 1) for item in ranking[1:] if item.within_noise]
    if close:
        noise = f"within noise of the best: number {', '.join(close)} ({_noise(calibration)})"
        lines.append(_styled(_wrapped(noise), BOLD))
    return "\n".join(lines)


def cuts_report(manager: "RewardModelManager", prompt: Prompt, responses: Sequence[str]) -> str | None:
    """What of texts that are too long the rewards did not see; None if nothing was left out.

    Raises:
        UserError: as `RewardModelManager.encode`.
    """
    encoded = manager.encode(prompt, responses)
    of_prompt = f"the first {encoded.prompt_tokens_cut} tokens of the prompt" if prompt else "what opens an answer"
    cuts = ["the whole prompt" if encoded.prompt_is_lost else of_prompt] if encoded.prompt_tokens_cut else []
    for number, cut in enumerate(encoded.response_tokens_cut, 1):
        if cut:
            text = "the text" if len(encoded.ids) == 1 else f"response {number}"
            cuts.append(f"{cut} tokens from the middle of {text}")
    if not cuts:
        return None
    return f"note: longer than the limit of {manager.max_length} tokens; left out: {', '.join(cuts)}"


def _verdict(result: Comparison, calibration: Calibration) -> str:
    if result.preferred == "tie":
        return "a tie: the rewards are equal"
    margin = f"margin {abs(result.margin):.3f}"
    if result.probability_a is None:
        return f"{result.preferred.upper()} is preferred ({margin}; the model is not calibrated, so no probability)"
    probability = max(result.probability_a, 1 - result.probability_a)
    said = f"{result.preferred.upper()} is preferred, with probability {probability:.0%} ({margin}"
    if result.within_noise:
        return f"{said}), but that is within noise: {_noise(calibration)}"
    return f"{said})"


def _noise(calibration: Calibration) -> str:
    return (
        f"of {calibration.pairs + calibration.training_pairs} pairs new to the model, those with margins up to "
        f"{calibration.noise_margin:.2f}, taken together, were not shown to be ranked better than by chance"
    )


def printable(text: str) -> str:
    """The text with signs in place of what moves the cursor or turns letters round."""
    return clean(text).translate(TURNING)


def _in_a_line(text: str, indent: int) -> str:
    """The text on one line, cut to what the terminal has left."""
    width = max(shutil.get_terminal_size().columns - indent, MIN_WIDTH)
    line = " ".join(printable(text).split())
    cells = 0
    for place, character in enumerate(line):
        cells += _cells(character)
        if cells > width or (cells == width and place < len(line) - 1):
            return line[:place] + "…"
    return line


def _cells(character: str) -> int:
    """How many columns a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _wrapped(text: str) -> str:
    """The text broken between words on a terminal, one line elsewhere."""
    return textwrap.fill(text, shutil.get_terminal_size().columns) if sys.stdout.isatty() else text


def _styled(text: str, *codes: int) -> str:
    """The text with ANSI's codes where a terminal shows them, and NO_COLOR is not set."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[{';'.join(map(str, codes))}m{text}\x1b[0m" if codes and wanted else text
