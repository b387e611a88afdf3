"""Metrics and pairs for the report, made up."""

from typing import Any

import numpy as np

from reward_model.data.pairs import Pair
from reward_model.evaluation import plots
from reward_model.evaluation.worst_pairs import choose_rows
from reward_model.reporting.pair_texts import PairView, view_pair
from reward_model.reporting.sections import Metrics
from reward_model.scoring.explanation import Explanation, Omission, TokenValue, split_response
from test_metrics import figures, table

HOSTILE = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>",
    "</div></details></main><style>* { display: none }</style>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202eright to left\u2066 and isolated",
    "nul \0 bell \a escape \x1b[31m",
    "<" * 1_000_000,
    "a" * 100_000,
    '"' * 4000,
    "word " * 4000,
    "\u0301" * 3000,
    "عربي " * 500,
)

QUALITY = {
    "identical_beginnings": 0.3,
    "control_tokens": 0.0,
    "cut_in_word": {"chosen": 0.01, "rejected": 0.02},
    "scripts": {"latin": 1.0},
    "languages": {"en": 1.0},
    "longer_wins": 0.75,
    "by_source": {"<c>": {"pairs": 60, "longer_wins": 0.7}, "d": {"pairs": 30, "longer_wins": 0.85}},
    "leaks": {"heldout": {"near_duplicate_prompts": 0.0, "responses_trained_on": 0.0}},
}


def make_metrics(names: tuple[str, ...] = ("heldout", "other")) -> Metrics:
    """The metrics of sets of 60 pairs of two sources."""
    random = np.random.default_rng(0)
    sets = {
        name: table(
            random.normal(0.5, 1, 60),
            source=["a <b>", "c"] * 30,
            chosen_characters=random.integers(10, 1000, 60),
            rejected_characters=random.integers(10, 1000, 60),
            tfidf=random.normal(size=60),
            frozen_features=random.normal(size=60),
        )
        for name in names
    }
    cuts = {"prompts_cut": 2, "prompt_tokens_cut": 30, "responses_cut": 0, "response_tokens_cut": 0}
    point = {"loss": 0.6, "accuracy": 0.7, "eval_loss": None, "eval_accuracy": None}
    return Metrics(
        eval={name: figures(pairs) for name, pairs in sets.items()},
        train={
            **{"pairs": 100, "degenerate": 20, "steps": 10, "kept_step": 10, "layers": 2, "device": "cpu"},
            **{"precision": "fp32", "step_downs": [], "device_problems": []},
        },
        training_curve=[
            {**point, "step": 5, "pairs": 50},
            {**point, "step": 10, "pairs": 100, "eval_loss": 0.5, "eval_accuracy": 0.8},
        ],
        data={"rows": 200, "kept": 180, "skipped": {"tie": 20}, "quality": QUALITY},
        tokens={"max_length": 512, "heldout": {"pairs": 60, **cuts}},
        external_sets={"sets": {"other": {"kept": 60, "skipped": {"duplicate": 1}, **cuts}}, "skipped": {"b": "why"}},
        calibration={"noise_margin": 0.3},
        reliability=plots.reliability_diagram(sets, 1.0),
        margins=plots.margin_histograms(sets),
        accuracy_by_length=plots.accuracy_by_length(sets),
    )


def make_views(name: str, texts: tuple[str, ...], count: int) -> list[PairView]:
    """The pairs that the report shows of a set of so many: every text as prompt, chosen, rejected and source."""

    def text(number: int) -> str:
        return texts[number % len(texts)]

    pairs = [
        Pair(({"role": "user", "content": text(n)},), f"{n} {text(n + 1)}", f"{n} {text(n + 2)}", text(n)[:200])
        for n in range(count)
    ]
    scored = table(np.linspace(-3, 1, count), id=[f"{number:016x}" for number in range(count)])
    rows: list[dict[str, Any]] = choose_rows(scored).to_dict("records")
    chosen = [pairs[int(row["id"], 16)] for row in rows]
    return [
        view_pair(name, row, pair, (make_explanation(pair.chosen), make_explanation(pair.rejected)) if n < 5 else None)
        for n, (row, pair) in enumerate(zip(rows, chosen, strict=True))
    ]


def make_explanation(response: str) -> Explanation:
    """Of a response whose tokens have three characters, up to 500 of them, every seventh of which moves the reward."""
    texts = [response[start : start + 3] for start in range(0, len(response), 3)]
    values = [float(place // 7 % 3) for place in range(len(texts))]
    tokens = [TokenValue(*each) for each in zip(texts[:500], values, strict=False)]
    cut = len(texts) - len(tokens)
    sentences = [Omission(part, 0.5, -0.25, cut > 0) for part in split_response(response)]
    return Explanation(values[len(tokens) - 1], 0.0, tokens, sentences, cut, 250 if cut else None)
