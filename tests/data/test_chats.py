"""Chats in every form that files have them in, stored as text among them."""

import json
from typing import Any

import numpy as np
import pytest

from reward_model.common.errors import InvalidRow
from reward_model.data.chats import UNREAD_FIELDS, looks_like_chat, parse_chat, to_messages
from reward_model.data.pair_reader import pair_from_row
from reward_model.data.pairs import Pair
from reward_model.data.row_formats import Columns

USER = {"role": "user", "content": 'It\'s a "Q"\n[{1}]\\'}
CHAT = [USER, {"role": "assistant", "content": "A's } {"}]
FORMS = {
    "JSON": json.dumps,
    "JSON, indented, after blanks": lambda chat: " \n" + json.dumps(chat, indent=2) + "\n",
    "Python": repr,
    "NumPy": lambda chat: str(np.array(chat, dtype=object)),
    "NumPy's repr": lambda chat: repr(np.array(chat, dtype=object)),
    "a tuple": lambda chat: repr(tuple(chat)),
}


def pair(row: dict[str, Any]) -> Pair:
    return pair_from_row(row, Columns(), "test")


@pytest.mark.parametrize("form", FORMS)
def test_a_chat_that_is_stored_as_text_is_read(form: str) -> None:
    other = [USER, {"role": "assistant", "content": "B"}]
    row = {"chosen": FORMS[form](CHAT), "rejected": FORMS[form](other)}
    assert pair(row) == pair({"chosen": CHAT, "rejected": other})
    assert pair(row | {"prompt": FORMS[form]([USER])}) == pair(row)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(CHAT)[:-3],  # as spreadsheets cut long cells
        json.dumps(json.dumps(CHAT)),  # made a text twice
        json.dumps([CHAT, CHAT]),
        json.dumps({"messages": CHAT}),
        str(CHAT).replace("'assistant'", "Role.ASSISTANT"),
        str([{"from": "human", "value": "Q"}])[:-1],
    ],
)
def test_a_text_that_looks_like_a_chat_and_is_none_is_not_trained_on(text: str) -> None:
    with pytest.raises(InvalidRow, match=r"^chat_as_text$"):
        pair({"prompt": "Q", "chosen": text, "rejected": text + " "})


@pytest.mark.parametrize(
    "text",
    [
        "[{'role' is a key, and so is content",
        '[{"name": "Ada"}]',
        '{"model": "m", "messages": [{"role": "user", "content": "Q"}]}',
        "[a link](to) 'role': and 'content':",
        "def f(): return [{'role': 1, 'content': 2}]",
        "",
    ],
)
def test_a_text_that_is_no_chat_stays_one(text: str) -> None:
    assert not looks_like_chat(text)
    assert parse_chat(text) is None


def test_one_side_that_is_a_chat_stored_as_text_is_turned_away() -> None:
    with pytest.raises(InvalidRow, match=r"^chat_as_text$"):
        pair({"prompt": "Q", "chosen": json.dumps([CHAT[1]]), "rejected": "B"})


@pytest.mark.parametrize(
    "value",
    [
        [{"role": "user", "content": "Q"}],
        {"role": "user", "content": "Q"},
        [{"role": "user", "content": [{"type": "text", "text": "Q"}]}],
        [{"role": "user", "content": [{"type": "input_text", "text": "Q", "image": None}]}],
        [{"from": "human", "value": "Q"}],
        [{"role": "user", "content": "Q", "tool_calls": None, "name": "", "reasoning_content": None, "weight": 1}],
    ],
)
def test_turns_are_read_in_every_form(value: Any) -> None:
    assert to_messages(value) == [{"role": "user", "content": "Q"}]


def test_parts_of_text_are_joined_and_a_developer_speaks_as_the_system() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert to_messages([{"role": "developer", "content": parts}]) == [{"role": "system", "content": "one\ntwo"}]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "missing_value"),
        (7, "not_text"),
        ([], "empty_chat"),
        (["text"], "list_of_texts"),
        ([7], "not_a_turn"),
        ([{"role": "user"}], "not_a_turn"),
        ([{"role": "user", "content": None}], "missing_value"),
        ([{"role": None, "content": "Q"}], "missing_value"),
        ([{"role": "poet", "content": "Q"}], "unknown_role"),
        ([{"role": ["user"], "content": "Q"}], "unknown_role"),
        ([{"role": "user", "content": 7}], "content_not_text"),
        ([{"role": "user", "content": []}], "content_not_text"),
        ([{"role": "user", "content": [{"type": "image", "url": "x"}]}], "content_not_text"),
        ([{"role": "user", "content": [{"type": "text", "text": None}]}], "content_not_text"),
        ([{"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}], "tool_calls"),
        *(([{"role": "user", "content": "Q", name: "x"}], name) for name in UNREAD_FIELDS),
    ],
)
def test_what_is_no_chat_has_a_word_of_its_own(value: Any, reason: str) -> None:
    with pytest.raises(InvalidRow, match=f"^{reason}$"):
        to_messages(value)
