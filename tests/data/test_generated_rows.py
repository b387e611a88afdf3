"""About a thousand rows, each a good pair written in some form and perhaps spoilt, with a known right answer."""

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reward_model.data.pair_reader import PairReader
from reward_model.data.pairs import ParsedPairs, parse_pairs
from reward_model.data.readers import read_rows
from reward_model.data.row_formats import Columns

ROWS = 1000
Row = dict[str, Any]
Answer = tuple[tuple[tuple[str, str], ...], str, str]
PIECES = [
    "plain",
    "it's",
    '"quoted"',
    "line\nline",
    "[1, 2]",
    "{'a': 1}",
    "} {",
    "\\",
    "é ☃",
    "a, b",
    "None",
    "array([",
]


def text(rng: random.Random, start: str) -> str:
    return " ".join([start, *rng.choices(PIECES, k=rng.randrange(5))])


def turn(role: str, content: Any) -> Row:
    return {"role": role, "content": content}


def sharegpt(turns: list[Row]) -> list[Row]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"from": names[each["role"]], "value": each["content"]} for each in turns]


def parts(turns: list[Row]) -> list[Row]:
    return [turn(each["role"], [{"type": "text", "text": each["content"]}]) for each in turns]


def standard(prompt: list[Row], better: Any, worse: Any) -> Row:
    return {"prompt": prompt, "chosen": better, "rejected": worse}


def sides(prompt: list[Row], better: str, worse: str) -> Row:
    return {"chosen": [*prompt, turn("assistant", better)], "rejected": [*prompt, turn("assistant", worse)]}


def written(form: Callable[[list[Row]], Any]) -> Callable[..., Row]:
    return lambda *pair: {side: form(turns) for side, turns in sides(*pair).items()}


FORMS: dict[str, Callable[..., Row]] = {
    "standard": standard,
    "single turns": lambda p, b, w: standard(p, *({"role": "assistant", "content": side} for side in (b, w))),
    "implicit prompt": sides,
    "stated prompt": lambda p, b, w: sides(p, b, w) | {"prompt": p[-1]["content"] + " "},
    "empty prompt": lambda p, b, w: sides(p, b, w) | {"prompt": ""},
    "parts": written(parts),
    "sharegpt": written(sharegpt),
    "sharegpt's column": lambda p, b, w: {"conversations": sharegpt(p), "chosen": b, "rejected": w},
    "JSON": written(json.dumps),
    "JSON, indented": written(lambda turns: "\n" + json.dumps(turns, indent=1)),
    "Python": written(str),
    "NumPy": written(lambda turns: str(np.array(turns, dtype=object))),
    "preference": lambda p, b, w: standard(p, w, b) | {"preference": 0},
    "safe_rlhf": lambda p, b, w: {"prompt": p, "response_0": w, "response_1": b, "better_response_id": 1},
    "helpsteer3": lambda p, b, w: {"context": p, "response1": b, "response2": w, "overall_preference": -2},
    "shp": lambda p, b, w: {"history": p, "human_ref_A": w, "human_ref_B": b, "labels": 0},
    "lmarena": lambda p, b, w: {
        "conversation_a": sides(p, b, w)["rejected"],
        "conversation_b": sides(p, b, w)["chosen"],
        "winner": "model_b",
    },
    "ranking": lambda p, b, w: {"prompt": p, "responses": [w, b], "scores": [1, 2.5]},
    "ultrafeedback": lambda p, b, w: {
        "instruction": p,
        "completions": [{"response": b, "overall_score": 8.0}, {"response": w, "overall_score": 3}],
    },
}


def cut_text(row: Row, rng: random.Random) -> str | None:
    """Cut the text of a chat, as a spreadsheet does."""
    if not (isinstance(row.get("chosen"), str) and row["chosen"].lstrip().startswith("[{")):
        return None
    row["chosen"] = row["chosen"].rstrip()[: -rng.randrange(1, 3)]
    return "chat_as_text"


def same_sides(row: Row, rng: random.Random) -> str | None:
    if "chosen" not in row:
        return None
    row["rejected"] = row["chosen"]
    return "chosen_equals_rejected"


def with_value(name: str, value: Any, reason: str) -> Callable[[Row, random.Random], str | None]:
    def spoil(row: Row, rng: random.Random) -> str | None:
        if name == "rejected" and name not in row:
            return None
        row[name] = value
        return reason

    return spoil


def call_a_tool(row: Row, rng: random.Random) -> str | None:
    if not isinstance(row.get("rejected"), list) or "role" not in row["rejected"][-1]:
        return None
    row["rejected"] = [*row["rejected"][:-1], row["rejected"][-1] | {"tool_calls": [{"name": "f"}]}]
    return "tool_calls"


SPOILS: list[Callable[[Row, random.Random], str | None]] = [
    cut_text,
    same_sides,
    with_value("rejected", None, "missing_value"),
    with_value("rejected", 7, "not_text"),
    with_value("rejected", ["a", "b"], "list_of_texts"),
    with_value("tools", [{"name": "f"}], "tools"),
    call_a_tool,
]
HARMLESS: list[Row] = [{}, {"margin": None}, {"margin": float("nan")}, {"id": 7}, {"system": ""}, {"tools": []}]


def generate(number: int, forms: list[str], *, spoil: bool = True) -> tuple[Row, Answer | str]:
    """A row, and the pair that it is, or the reason why it is none."""
    rng = random.Random(number)
    prompt = [turn("user", text(rng, f"Q{number}"))]
    if rng.random() < 0.3:
        prompt = [turn("system", text(rng, "S")), *prompt]
    if rng.random() < 0.3:
        prompt += [turn("assistant", text(rng, "T")), turn("user", text(rng, "R"))]
    better, worse = text(rng, "good"), text(rng, "bad")
    row = FORMS[rng.choice(forms)](prompt, better, worse) | rng.choice(HARMLESS)
    if spoil and rng.random() < 0.4 and (reason := rng.choice(SPOILS)(row, rng)) is not None:
        return row, reason
    return row, answer(prompt, better, worse)


def answer(prompt: Any, better: str, worse: str) -> Answer:
    return tuple((each["role"], each["content"]) for each in prompt), better, worse


def parse(rows: Any) -> ParsedPairs:
    reader = PairReader(Columns(), "test")
    parsed = parse_pairs(reader.expand(rows), reader.to_pair)
    reader.check(parsed)
    assert parsed.rows == len(parsed.pairs) + len(parsed.rejects), "nothing is lost"
    return parsed


def check(parsed: ParsedPairs, expected: list[Answer | str]) -> None:
    assert {answer(pair.prompt, pair.chosen, pair.rejected) for pair in parsed.pairs} == {
        each for each in expected if not isinstance(each, str)
    }
    assert Counter(reject["reason"] for reject in parsed.rejects) == Counter(
        each for each in expected if isinstance(each, str)
    )


def test_every_row_is_its_pair_or_turned_away_for_its_reason() -> None:
    rows, expected = zip(*(generate(number, list(FORMS)) for number in range(ROWS)), strict=True)
    assert len({each for each in expected if isinstance(each, str)}) == len(SPOILS)
    check(parse(rows), list(expected))


def jsonl(rows: list[Row], path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def parquet(rows: list[Row], path: Path) -> None:
    pd.DataFrame(rows).to_parquet(path)


def csv_(rows: list[Row], path: Path) -> None:
    cells = io.StringIO()
    writer = csv.DictWriter(cells, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    for row in rows:
        given = {name: value for name, value in row.items() if value is not None}
        writer.writerow({name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()})
    path.write_text(cells.getvalue())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("write", [jsonl, parquet, csv_], ids=["jsonl", "parquet", "csv"])
def test_every_form_in_every_file_is_the_same_pairs(write: Callable[..., None], form: str, tmp_path: Path) -> None:
    rows, expected = zip(*(generate(number, [form], spoil=False) for number in range(12)), strict=True)
    path = tmp_path / f"rows.{write.__name__.rstrip('_')}"
    write(list(rows), path)
    check(parse(read_rows(path)), list(expected))
