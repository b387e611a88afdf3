"""Explanations of rewards for the page: sentences with what each changes, and the response with the moves marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape
from pydantic import TypeAdapter

from reward_model.common.files import read_jsonl
from reward_model.evaluation.worst_pairs import EXPLANATIONS
from reward_model.reporting.clean import clean
from reward_model.scoring.explanation import Explanation, MarkedText, largest_move, marked_texts

MAX_SENTENCE = 300  # characters that are shown
SIDES = TypeAdapter(tuple[Explanation, Explanation])

Explanations = Mapping[tuple[str, str], tuple[Explanation, Explanation]]  # of chosen and rejected, by set and id


@dataclass(frozen=True)
class ExplanationView:
    """What the page shows of one response.

    Attributes:
        sentences: how far the reward moves without each of them, whether the model saw all of it, and its beginning.
        text: as the model saw it, as HTML.
    """

    sentences: list[tuple[float, bool, str]]
    text: Markup


def read_explanations() -> Explanations:
    """Those that the explain stage made.

    Raises:
        UserError: there is no such file.
    """
    rows = read_jsonl(EXPLANATIONS)
    return {(row["set"], row["id"]): SIDES.validate_python((row["chosen"], row["rejected"])) for row in rows}


def view_explanations(sides: Sequence[Explanation]) -> list[ExplanationView]:
    """What the page shows of the responses to a prompt, whose moves are measured by the largest of all."""
    largest = largest_move(sides)
    return [ExplanationView(_sentences(side), _marked(side, largest)) for side in sides]


def _sentences(explanation: Explanation) -> list[tuple[float, bool, str]]:
    return [(each.change, not each.cut, shorten(each.sentence)) for each in explanation.sentences]


def shorten(sentence: str) -> str:
    """The beginning of a sentence, in one line."""
    words = " ".join(sentence.split())
    return words if len(words) <= MAX_SENTENCE else words[:MAX_SENTENCE] + "…"


def _marked(explanation: Explanation, largest: float) -> Markup:
    html: list[Markup] = []
    for part in marked_texts(explanation, largest):
        if part.follows_cut:
            html.append(Markup("<small>[… {} tokens cut …]</small>").format(explanation.tokens_cut))
        text, style = clean(part.text), _style(part)
        body = text.lstrip()  # tokens begin with the blank before a word, where a mark says nothing
        html.append(escape(text[: len(text) - len(body)]))
        html.append(Markup('<span class="{}">{}</span>').format(style, body) if style and body else escape(body))
    return Markup("").join(html)


def _style(part: MarkedText) -> str:
    """The classes of a part, none for most."""
    if not (part.is_strong or part.is_weak):
        return ""
    return ("up" if part.move > 0 else "down") + (" strong" if part.is_strong else "")


def size(views: Sequence[ExplanationView]) -> int:
    """Bytes that they take in the page, or a few more."""
    texts = [text for view in views for text in (view.text, *(escape(sentence) for _, _, sentence in view.sentences))]
    return 1000 * len(views) + sum(150 + len(text.encode("utf-8", "replace")) for text in texts)
