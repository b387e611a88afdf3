"""Explanations of rewards as people read them: the response with what moves its reward, and its sentences."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Span, Text

from reward_model.cli.display import printable
from reward_model.cli.terminal import make_console, make_table
from reward_model.scoring.explanation import (
    STRONG,
    WEAK,
    Explanation,
    MarkedText,
    Omission,
    largest_move,
    marked_texts,
)

MIN_WIDTH = 20
MAX_CHARACTERS = 400  # of a sentence that is shown
ALONG = (
    "Along the response: the reward head read at each token. It was trained at the last token alone; before that what "
    "it gives is a hint, not the reward of the text so far. A line has the value at its last token and the move since "
    "the line before."
)
MARKS = "Marked below a token: ▲ ▼ a move of {limit:.2f} or more at it, + - of {lower:.2f} or more."
WITHOUT = (
    "Without each sentence: the rest is scored as any other response to the prompt. Change is that reward minus the "
    "whole response's; below zero, the sentence raises the reward."
)
ONE_SENTENCE = "Nothing to leave out: it has one sentence at most."
CUT = "[cut] stands before sentences that the model did not see, or not all of."


def print_explanations(explanations: Sequence[Explanation], names: Sequence[str], unit: str) -> None:
    """Print them below each other, in colour on a terminal.

    Args:
        explanations: of the responses to one prompt.
        names: of the responses.
        unit: what the rewards are called.
    """
    console = make_console()
    rewards = [each.reward for each in explanations]
    titles = [Text(f"{name} {unit} {reward:+.3f}".strip(), "bold") for name, reward in zip(names, rewards, strict=True)]
    console.print(Text(WITHOUT, "dim"))
    if any(omission.cut for each in explanations for omission in each.sentences):
        console.print(Text(CUT, "dim"))
    for title, each in zip(titles, explanations, strict=True):
        shown = _sentence_table(each.sentences, unit) if each.sentences else Text(ONE_SENTENCE, "dim")
        console.print("", title, shown, sep="\n")
    largest = largest_move(explanations)
    console.print("", Text(ALONG, "dim"), sep="\n")
    if largest:
        console.print(Text(MARKS.format(limit=STRONG * largest, lower=WEAK * largest), "dim"))
    for title, each in zip(titles, explanations, strict=True):
        console.print("", title, sep="\n")
        for line in _along(each, largest, console):
            console.print(line, soft_wrap=True)


def _along(explanation: Explanation, largest: float, console: Console) -> Iterator[Text]:
    """The lines of a response, each with its figures, and below it a line of marks where there are any."""
    head = f"{'value':>8} {'move':>8}  "
    yield Text(f"{head}text", "dim")
    before = explanation.before
    width = max(console.width - len(head), MIN_WIDTH)
    for line in _marked_text(explanation, largest).wrap(console, width, overflow="fold", tab_size=4):
        line.rstrip()
        tokens = [meta["token"] for _, meta in _metas(line)]
        if not tokens:
            yield Text(" " * len(head)).append(line)
            continue
        value = explanation.tokens[max(tokens)].value
        move = "" if before is None else f"{value - before:+.3f}"
        yield Text(f"{value:>+8.3f} {move:>8}  ").append(line)
        before = value
        if marks := _marks(line):
            yield Text(" " * len(head) + marks)


def _marked_text(explanation: Explanation, largest: float) -> Text:
    """The text that the model saw, in colours; each part knows its token and its mark."""
    text = Text()
    for part in marked_texts(explanation, largest):
        if part.follows_cut:
            text.append(f" [… {explanation.tokens_cut} tokens cut …] ", "dim")
        mark = _mark(part)
        color = None if not mark else "green" if part.move > 0 else "red"
        meta = {"token": part.place, "mark": mark}
        shown = printable(part.text).replace("\n", "↵\n")
        text.append(shown, Style(color=color, bold=part.is_strong or None, meta=meta))
    return text


def _mark(part: MarkedText) -> str:
    if part.is_strong:
        return "▲" if part.move > 0 else "▼"
    if part.is_weak:
        return "+" if part.move > 0 else "-"
    return ""


def _marks(line: Text) -> str:
    """The marks of a line, each below the first character of its token."""
    row = ""
    for span, meta in _metas(line):
        if meta["mark"]:
            part = line.plain[span.start : span.end]
            first = span.start + len(part) - len(part.lstrip())
            row = row.ljust(cell_len(line.plain[:first])) + meta["mark"]
    return row


def _metas(line: Text) -> list[tuple[Span, dict[str, Any]]]:
    """The parts of a line that are tokens."""
    return [(span, span.style.meta) for span in line.spans if isinstance(span.style, Style) and span.style.meta]


def _sentence_table(sentences: Sequence[Omission], unit: str) -> Table:
    """A row a sentence."""
    table = make_table(unit, "change", "sentence left out", numbers=(unit, "change"))
    for each in sentences:
        color = "green" if each.change < 0 else "red"
        text = " ".join(printable(each.sentence[:MAX_CHARACTERS]).split())
        shown = ("[cut] " if each.cut else "") + text + ("…" if len(each.sentence) > MAX_CHARACTERS else "")
        table.add_row(f"{each.reward:+.3f}", Text(f"{each.change:+.3f}", color), Text(shown))
    return table
