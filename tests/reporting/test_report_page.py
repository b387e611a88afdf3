"""The report's page: what it says, what becomes of hostile texts, and its size."""

import json
import os
import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from conftest import DEFAULTS, ROOT, Project
from report_fixtures import HOSTILE, make_metrics, make_views
from reward_model.evaluation.worst_pairs import SAMPLED, WORST, choose_rows
from reward_model.reporting.explanations import MAX_SENTENCE, view_explanations
from reward_model.reporting.page import FOLDER, MAX_BYTES, render_page
from reward_model.reporting.pair_texts import MAX_CHARACTERS, mark_differences, plain_text
from reward_model.reporting.summary import COMPARED, TOO_FEW, verdict_sentence
from reward_model.scoring.explanation import Explanation, Omission, TokenValue
from test_metrics import table

METRICS = make_metrics()


class Elements(HTMLParser):
    """The names of a page's elements and of their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_texts_are_texts() -> None:
    page = render_page(METRICS, DEFAULTS, [make_views("heldout", HOSTILE, 200)])
    elements = Elements(page)
    assert not {"img", "link", "iframe", "object", "base"} & elements.names
    assert not {name for name in elements.attributes if name.startswith("on")}
    assert page.count("<script") == 1
    assert page.count("<style") == 1
    assert HOSTILE[0] in elements.text
    assert "{{ 7 * 7 }}" in elements.text
    assert not re.search("[\0\a\x1b]", page)
    assert "␀" in page
    assert f"{1_000_000 + 2 - MAX_CHARACTERS:,} more characters are not shown" in page


def test_the_page_loads_nothing() -> None:
    page = render_page(METRICS, DEFAULTS, [make_views("heldout", ("https://example.com/a.js",), 20)])
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)|url\(|@import""", page)
    assert "default-src 'none'" in page


def test_the_same_input_gives_the_same_bytes() -> None:
    first, second = (
        render_page(make_metrics(), DEFAULTS, [make_views("heldout", ("a b", "b c"), 30)]) for _ in range(2)
    )
    assert first == second


def test_of_very_many_pairs_the_worst_and_a_sample_are_shown() -> None:
    count = 100_000
    margins = np.random.default_rng(0).normal(0.5, 1, count)
    shown = choose_rows(table(margins, id=[f"{number:016x}" for number in range(count)]))
    assert len(shown) == WORST + SAMPLED
    assert sorted(shown["gap"].head(WORST)) == sorted(margins)[:WORST]
    assert min(shown["gap"].tail(SAMPLED)) >= 0


def test_the_page_stays_small_and_says_what_had_no_room() -> None:
    names = tuple(f"set{number}" for number in range(12))
    metrics = make_metrics(("heldout", *names[:2]))
    views = [make_views(name, ('"<&' * 2000, "'>" * 3000), 200) for name in names]
    page = render_page(metrics, DEFAULTS, views)
    assert MAX_BYTES / 2 < len(page.encode()) <= MAX_BYTES
    assert "of these pairs have no room here" in page
    assert set(names) == set(re.findall(r'data-set="(\w+)"', page)), "each set has its share"


def test_the_page_without_texts_has_the_figures_alone() -> None:
    page = render_page(METRICS, DEFAULTS, None)
    assert verdict_sentence(METRICS.eval) in page
    assert 'id="pairs"' not in page
    assert "<details class=" not in page


def test_what_the_training_pairs_look_like_is_shown_and_warned_of() -> None:
    page = render_page(METRICS, DEFAULTS, None)
    assert "the same for the source &lt;c&gt;</bdi></th><td>70.0%" in page
    assert "warning: both responses begin with the same 100 characters in 30% of the training pairs" in page


def test_every_chart_has_a_label_and_a_table() -> None:
    page = render_page(METRICS, DEFAULTS, None)
    figures = re.findall(r"<figure>.*?</figure>", page, re.DOTALL)
    assert len(figures) == 2 * 7 + 2
    for figure in figures:
        assert re.search(r'<svg role="img" aria-label="[^"]{10,}"', figure)
        assert re.search(r"<tbody>\s*<tr><th", figure)
    assert "a &lt;b&gt;" in page
    assert "<b>" not in page


@pytest.mark.parametrize(
    "name",
    ["nul \0 escape \x1b", "half \ud800", "\ufffe\uffff", "\u202eturned", "</text>&", "x" * 10**6, "\n"],
    ids=["controls", "surrogate", "noncharacters", "bidi", "markup", "long", "line feed"],
)
def test_names_of_sources_may_be_anything(name: str) -> None:
    own = METRICS.eval["heldout"]
    few = {"n": 3, "accuracy": 0.5, "accuracy_ci95": None}
    by_source = {f"{name}{number}": few for number in range(3)}
    metrics = replace(METRICS, eval={"heldout": {**own, "by_source": by_source}})
    page = render_page(metrics, DEFAULTS, None)
    assert len(page) < 200_000
    assert not re.search("[\0\x1b\ud800\ufffe\uffff]", page)
    [figure] = re.findall(r"<h3>By source</h3>.*?</figure>", page, re.DOTALL)
    assert figure.count('fill="var(--model)"') == 3, "a dot for each"


@pytest.mark.parametrize(
    ("chosen", "rejected", "marks"),
    [
        ("the cat sat", "the dog sat", ["cat", "dog"]),
        ("one two three", "one two three four", ["four"]),
        ("a <b> c", "a c", ["&lt;b&gt;"]),
        ("all words differ here", "nothing is the same", []),
        ("", "", []),
    ],
)
def test_differences_of_similar_responses_are_marked(chosen: str, rejected: str, marks: list[str]) -> None:
    left, right, _ = mark_differences(chosen, rejected)
    assert re.findall("<mark>(.*?)</mark>", left.html + right.html) == marks
    assert [left.html.striptags(), right.html.striptags()] == [
        plain_text(text).html.striptags() for text in (chosen, rejected)
    ]


def test_explanations_mark_the_tokens_that_move_the_reward_and_list_the_sentences() -> None:
    tokens = [TokenValue(*each) for each in (("It ", 0.1), ("is ", 0.5), ("<b>", -0.3), (" so", -0.2), (".", -0.1))]
    sides = [
        Explanation(0.0, 0.0, tokens, [Omission("It is <b> so.", 0.7, 0.7, cut=True)], 12, 3),
        Explanation(0.1, 0.0, tokens[:1], [Omission("word " * 100, 0.1, 0.0, cut=False)], 0, None),
    ]
    first, second = view_explanations(sides)
    assert first.text == (
        'It <span class="up strong">is </span><span class="down strong">&lt;b&gt;</span>'
        "<small>[… 12 tokens cut …]</small> so."
    )
    assert first.sentences == [(0.7, False, "It is <b> so.")]
    assert second.text == "It "
    [(change, is_whole, sentence)] = second.sentences
    assert (change, is_whole) == (0.0, True)
    assert sentence == ("word " * 100)[:MAX_SENTENCE] + "…"


@pytest.mark.parametrize("outcome", [*COMPARED, "too_few_prompts"])
def test_the_verdict_is_one_sentence(outcome: str) -> None:
    own = METRICS.eval["heldout"]
    verdict = {"outcome": outcome, "over": own["best_baseline"]}
    sentence = verdict_sentence({"heldout": {**own, "verdict": verdict}})
    assert COMPARED.get(outcome, TOO_FEW) in sentence
    assert re.fullmatch(r"[^\n]+[^.]\.", sentence)
    assert ". " not in sentence


def test_params_that_differ_from_the_defaults_are_shown() -> None:
    assert "All params have their defaults." in render_page(METRICS, DEFAULTS, None)
    changed = {**DEFAULTS, "train": {**DEFAULTS["train"], "learning_rate": 0.123}}
    page = render_page(METRICS, changed, None)
    assert re.search(r"train\.learning_rate</bdi></th><td>0\.123</td><td>4e-05</td>", page)


def test_the_defaults_are_those_of_params_yaml() -> None:
    ours = yaml.safe_load((FOLDER / "default_params.yaml").read_text())
    assert ours == DEFAULTS, "cp params.yaml stages/reward_model/reporting/default_params.yaml"


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one: str, other: str) -> float:
    high, low = sorted(map(luminance, (one, other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(theme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", (FOLDER / "report.css").read_text(), re.DOTALL)
    assert len(blocks) == 2
    colours = dict(re.findall(r"--(\w+): (#\w{6});", blocks[theme]))
    for text in ("text", "muted", "link", "model", "wrong", "rule", "judge", "reference"):
        for ground in ("page", "card"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["text"], colours["mark"]) >= 4.5


def test_the_stage_writes_both_pages(trained: Project) -> None:
    with_texts, without = ((trained.folder / name).read_text() for name in ("data/report.html", "metrics/report.html"))
    prompt = "expert question"  # of the set mt_bench_human
    assert prompt in with_texts
    assert prompt not in without
    rows = [json.loads(line) for line in (trained.folder / "data/explanations.jsonl").read_text().splitlines()]
    scored = {
        row["id"]: (row["chosen_reward"], row["rejected_reward"])
        for name in {row["set"] for row in rows}
        for row in pq.read_table(trained.folder / f"data/evaluation/{name}.parquet").to_pylist()
    }
    assert with_texts.count("<summary>What moves this reward") == 2 * len(rows) > 0
    for row in rows:
        assert scored[row["id"]][0] < scored[row["id"]][1], "the model ranks it against the label"
        explained = [row[side]["reward"] for side in ("chosen", "rejected")]
        assert explained == pytest.approx(scored[row["id"]], abs=1e-4), "the rewards that the page shows"


def test_no_pairs_are_explained_without_loading_the_model_where_none_are_wanted(
    trained: Project, tmp_path: Path
) -> None:
    project = Project(shutil.copytree(trained.folder, tmp_path / "project", symlinks=True))
    project.set_params({"evaluate.explained_pairs": 0})
    shutil.rmtree(project.folder / "models/reward")
    project.stage("explain")
    assert (project.folder / "data/explanations.jsonl").read_text() == ""


def test_without_a_report_that_of_the_committed_run_is_shown_or_one_error(tmp_path: Path) -> None:
    result = Project(tmp_path).run(str(ROOT / "stages/report.py"), "--open")
    assert result.returncode == 1
    assert result.stderr == "error: data/report.html is missing: run `dvc repro`, which makes it\n"
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/report.html").write_text("of the commit")
    browser, opened = tmp_path / "browser.py", tmp_path / "opened"
    browser.write_text("import pathlib, sys\npathlib.Path('opened').write_text(sys.argv[1])\n")
    environment = os.environ | {"BROWSER": f"{sys.executable} {browser} %s"}
    result = Project(tmp_path).run(str(ROOT / "stages/report.py"), "--open", env=environment)
    assert (result.returncode, result.stdout.split(",")[0]) == (0, "metrics/report.html")
    assert opened.read_text() == (tmp_path / "metrics/report.html").as_uri()
