"""What prepare says of the quality of pairs."""

from collections import Counter
from typing import Any

import pytest

from reward_model.data import quality
from reward_model.data.pair_reader import PairReader
from reward_model.data.pairs import Pair
from reward_model.data.quality import (
    language_of_text,
    measure_quality,
    quality_rows,
    quality_warnings,
    script_of_text,
    unbalanced_labels,
)
from reward_model.data.row_formats import Columns

WORDS = [f"{one}{two}{three}" for one in "bdfgklmn" for two in "aeiou" for three in "prstvxz"]
PROMPT = "please tell me in your own words what the town of {} was known for in the years before the war"


def text(number: int) -> str:
    """Some 60 words in an order of their own, ended by a full stop."""
    return " ".join(WORDS[(number * place) % len(WORDS)] for place in range(1, 61)) + "."


def pair(number: int, **changes: Any) -> Pair:
    prompt = changes.pop("prompt", f"{text(number)} what is that")
    values = {"chosen": f"{text(number)} yes.", "rejected": text(number + 7), "source": "own", **changes}
    return Pair(({"role": "user", "content": prompt},), **values)


CLEAN = [pair(number) if number % 2 else pair(number, rejected=f"{text(number + 7)} and no.") for number in range(60)]


def figures(train: list[Pair], heldout: list[Pair] | None = None) -> dict[str, Any]:
    return measure_quality({"train": train, "heldout": heldout or [pair(900)]})


@pytest.fixture(autouse=True)
def few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "MIN_WORDS", 100)


def test_clean_pairs_give_no_warning() -> None:
    found = figures(CLEAN)
    assert list(quality_warnings(found)) == []
    assert found["scripts"] == {"latin": 1.0}
    assert found["cut_in_word"] == {"chosen": 0.0, "rejected": 0.0}


@pytest.mark.parametrize(
    ("changes", "key", "expected", "line"),
    [
        (
            {"chosen": text(1) + " yes.", "rejected": text(1) + " no."},
            "identical_beginnings",
            1.0,
            "begin with the same 100 characters in 100% of",
        ),
        ({"rejected": "no <|im_end|>"}, "control_tokens", 1.0, "100% of the training pairs hold what looks like a"),
        ({"prompt": "[INST] what"}, "control_tokens", 1.0, "100% of the training pairs hold what looks like a"),
        (
            {"chosen": text(1) + " notwithst"},
            "cut_in_word",
            {"chosen": 1.0, "rejected": 0.0},
            "100% of the long chosen and 0% of the long rejected responses end within a word",
        ),
        ({"rejected": "no"}, "by_source", {"own": {"pairs": 60, "longer_wins": 1.0}}, "'own': the longer response"),
    ],
)
def test_each_habit_of_the_training_pairs_is_a_figure_and_a_line(
    changes: dict[str, Any], key: str, expected: Any, line: str
) -> None:
    found = figures([pair(number, **changes) for number in range(60)])
    assert found[key] == expected
    assert any(line in warning for warning in quality_warnings(found))


def test_evaluated_pairs_that_training_meets_again_are_counted() -> None:
    train = [*CLEAN, pair(100, prompt=PROMPT.format("Ulm") + " and after it")]
    near = pair(200, prompt=PROMPT.format("Ulm") + " and after that")
    again = pair(300, prompt="another question", chosen=train[3].chosen + " ", rejected=train[3].rejected)
    found = figures(train, [near, again, pair(400), pair(401)])
    assert found["leaks"] == {"heldout": {"near_duplicate_prompts": 0.25, "responses_trained_on": 0.25}}
    assert [line[:3] for line in quality_warnings(found)] == ["25%", "the"]


def test_what_is_not_measured_is_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut words among too few words, and a split without pairs."""
    monkeypatch.setattr(quality, "MIN_WORDS", 5_000)
    found = measure_quality({"train": [pair(1, chosen=text(1) + " notwithst")], "heldout": []})
    assert found["cut_in_word"] == {"chosen": None, "rejected": None}
    assert found["leaks"]["heldout"] == {"near_duplicate_prompts": None, "responses_trained_on": None}
    assert [shown for name, shown in quality_rows(found) if "within a word" in name or "heldout" in name] == ["–"] * 4
    assert list(quality_warnings(found)) == []


@pytest.mark.parametrize(
    ("text", "script"),
    [("Grüße", "latin"), ("Привет, world", "cyrillic"), ("你好", "cjk"), ("123 …", "none"), ("שלום", "hebrew")],
)
def test_a_text_has_the_script_of_most_of_its_letters(text: str, script: str) -> None:
    assert script_of_text(text) == script


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Die Stadt war vor allem für ihre Brücken und Märkte bekannt.", "de"),
        ("La ville était surtout connue pour ses ponts et ses marchés.", "fr"),
        ("この町は橋と市場でよく知られていました。", "ja"),
        ("for i in range(3): print(i)", "unclear"),
        ("12 + 30", "unclear"),
        ("", "unclear"),
    ],
)
def test_a_text_has_a_language_or_is_unclear(text: str, language: str) -> None:
    assert language_of_text(text) == language


def test_languages_are_shares_of_the_chosen_responses_and_rare_ones_are_not_shown() -> None:
    english = "The town was best known for its bridges and its markets before the war."
    german = "Die Stadt war vor allem für ihre Brücken und Märkte bekannt."
    found = figures([pair(number, chosen=german if number == 0 else english) for number in range(250)])
    assert found["languages"] == {"en": 249 / 250, "de": 1 / 250}
    shown = dict(quality_rows(found))
    assert shown["chosen responses in language: en"] == "99.6%"
    assert "chosen responses in language: de" not in shown


@pytest.mark.parametrize(("labels", "warned"), [("AAAAAAAAAB", True), ("AAABBBBAtt", False), ("", False)])
def test_labels_that_name_one_side_nearly_always_are_counted_and_told(labels: str, warned: bool) -> None:
    columns = Columns(chosen="one", rejected="other", preference="better")
    reader = PairReader(columns, "own")
    words = {"A": "first", "B": "second", "t": "tie"}
    rows = [{"prompt": "P", "one": "x", "other": "y", "better": words[label]} for label in labels * 10]
    list(reader.expand([*rows, {"prompt": "P", "one": "x", "other": "y", "better": "?"}]))
    assert reader.labels == Counter(words[label] for label in labels * 10)
    lines = list(unbalanced_labels({"sources": {"a.jsonl": {"labels": dict(reader.labels)}}}))
    assert lines == (["a.jsonl: the label says 'first' in 90% of the rows: is it read right?"] if warned else [])


def test_a_probability_that_chosen_is_better_is_no_such_label() -> None:
    reader = PairReader(Columns(), "own")
    list(reader.expand([{"prompt": "P", "chosen": "x", "rejected": "y", "preference": 0.9}]))
    assert not reader.labels
