"""Rows as `stages/score.py` takes them: those of its files, and two responses as on its command line."""

from dataclasses import asdict, dataclass
from typing import Any

from reward_model.common.errors import UserError
from reward_model.common.messages import Row
from reward_model.data.row_formats import InvalidRow, response_text
from reward_model.scoring.file_scoring import parse_row, row_result
from reward_model.scoring.prompts import Prompt, prompt_of_row
from reward_model.scoring.scorer import Scorer

COMPARISON = ("prompt", "response_a", "response_b")


@dataclass(frozen=True)
class ParsedRow:
    """A row that can be scored.

    Attributes:
        kind: of `file_scoring.RESULTS`, or comparison.
        prompt: what the responses answer.
        responses: to be scored.
    """

    kind: str
    prompt: Prompt
    responses: list[str]

    @classmethod
    def parse(cls, row: Row) -> "ParsedRow":
        """Read a row.

        Raises:
            UserError: why it cannot be scored.
        """
        if row.get("response_a") is None and row.get("response_b") is None:
            return cls(*parse_row(row))
        if any(row.get(name) is None for name in COMPARISON):
            raise UserError(f"to compare give {', '.join(COMPARISON)}")
        try:
            prompt = prompt_of_row(row)
            responses = [response_text(row[name]) for name in COMPARISON[1:]]
        except InvalidRow as reason:
            raise UserError(f"the row is no comparison: {reason.detail}") from None
        return cls("comparison", prompt, responses)

    def result(self, scorer: Scorer, rewards: list[float]) -> dict[str, Any]:
        """What its rewards say, in score.py's words."""
        if self.kind == "comparison":
            return asdict(scorer.compare(*rewards))
        return row_result(scorer, self.kind, rewards)
