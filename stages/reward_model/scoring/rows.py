"""Rows that can be scored, and the columns that each gets.

| a row has | it gets |
|---|---|
| text, or prompt and response | reward |
| prompt, response_a and response_b | reward_a, reward_b, margin, preferred, probability_a, within_noise |
| prompt, chosen and rejected | reward_chosen, reward_rejected, reward_margin, probability_chosen, within_noise |
| prompt and responses (a list) | rewards, and best: the place of the highest, from 0 |
| something else | error: why it cannot be scored |
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from reward_model.common.errors import InvalidRow, UserError
from reward_model.common.messages import Row
from reward_model.data.row_formats import CONVERSATIONS, Columns, parse_sides, response_text
from reward_model.data.row_streams import Schema
from reward_model.scoring.prompts import Prompt, prompt_of_row
from reward_model.scoring.scorer import Scorer

PROMPTS = (Columns.prompt, CONVERSATIONS)
SIDES = ("response_a", "response_b")
# The columns that each kind of row gets, with their types.
RESULTS: dict[str, Schema] = {
    "pair": {
        "reward_chosen": float,
        "reward_rejected": float,
        "reward_margin": float,
        "probability_chosen": float,
        "within_noise": bool,
    },
    "comparison": {
        "reward_a": float,
        "reward_b": float,
        "margin": float,
        "preferred": str,
        "probability_a": float,
        "within_noise": bool,
    },
    "responses": {"rewards": list, "best": int},
    "text": {"reward": float},
}
ERROR = "error"
WANTED = "text, prompt + response, prompt + response_a + response_b, prompt + chosen + rejected, or prompt + responses"


@dataclass(frozen=True)
class ParsedRow:
    """A row that can be scored.

    Attributes:
        kind: a key of `RESULTS`.
        prompt: what the responses answer.
        responses: to be scored.
    """

    kind: str
    prompt: Prompt
    responses: list[str]

    @classmethod
    def parse(cls, values: Row, names: Iterable[str] | None = None) -> "ParsedRow":
        """Read a row.

        Args:
            values: the row.
            names: the columns that all rows of its file have; None if each row has its own.

        Raises:
            UserError: why it cannot be scored.
        """
        kind = row_kind(names or [name for name, value in values.items() if value is not None or name in PROMPTS])
        if kind is None:
            raise UserError(f"nothing to score: {WANTED} is wanted")
        try:
            return cls(kind, *_conversation(kind, values))
        except InvalidRow as reason:
            raise UserError(f"the row is no {kind}: {reason.detail}") from None

    def result(self, scorer: Scorer, rewards: list[float]) -> Row:
        """The columns that it gets for its rewards."""
        if self.kind == "text":
            return {"reward": rewards[0]}
        if self.kind == "responses":
            return {"rewards": rewards, "best": rewards.index(max(rewards))}
        comparison = scorer.compare(*rewards)
        if self.kind == "comparison":
            return asdict(comparison)
        return {
            "reward_chosen": comparison.reward_a,
            "reward_rejected": comparison.reward_b,
            "reward_margin": comparison.margin,
            "probability_chosen": comparison.probability_a,
            "within_noise": comparison.within_noise,
        }


def row_kind(names: Iterable[str]) -> str | None:
    """The kind of rows with these columns. Responses without a prompt are none: it may be there by another name."""
    there = set(names)
    if there & {"chosen", "rejected"}:
        return "pair"
    if there & {*PROMPTS}:
        for kind, columns in (("comparison", SIDES), ("responses", ["responses"]), ("text", ["response"])):
            if there & {*columns}:
                return kind
    return "text" if "text" in there else None


def _conversation(kind: str, values: Row) -> tuple[Prompt, list[str]]:
    """The prompt of a row, and the responses to be scored."""
    if kind == "pair":
        prompt, chosen, rejected = parse_sides(values, Columns())
        return prompt, [chosen, rejected]
    if kind == "text" and values.get("response") is None and "text" in values:
        return prompt_of_row(values), [_response(values, "text")]
    if all(values.get(name) is None for name in PROMPTS):
        raise InvalidRow("no_prompt")  # that is what a join leaves; "" says that there is none
    prompt = prompt_of_row(values)
    if kind == "comparison":
        return prompt, [_response(values, name) for name in SIDES]
    if kind == "text":
        return prompt, [_response(values, "response")]
    responses = values.get("responses")
    if not isinstance(responses, list) or not responses:
        raise InvalidRow("responses is not a list of texts")
    return prompt, [response_text(response) for response in responses]


def _response(values: Row, name: str) -> str:
    if values.get(name) is None:
        raise InvalidRow("missing_column", name)
    return response_text(values[name])
