"""The charts of the report as Vega-Lite, drawn as SVG whose colours are the page's (`var(--…)`), light and dark."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import vl_convert
from markupsafe import Markup, escape

from reward_model.reporting.clean import clean

Spec = dict[str, Any]
Rows = Sequence[dict[str, Any]]

HEIGHT = 170  # of a chart that has no rows, without its axis
WIDTH = 330  # pixels with all labels: a chart fits a telephone without being made smaller
ROW_HEIGHT = 22  # of a dot plot
MAX_LABEL = 26  # letters
LABEL = "split(datum.label, '\\t')[1]"  # what is shown of `_labels`
LETTER = 6.8  # pixels, of a wide font
MODEL, RULE, JUDGE, REFERENCE = "model", "rule", "judge", "reference"
SHAPES = {
    MODEL: "circle",
    RULE: "square",
    JUDGE: "diamond",
    REFERENCE: "triangle-up",
}  # for those who cannot tell the colours
RUNS = tuple(f"var(--{name})" for name in ("model", "wrong", "judge", "rule", "text"))  # the colours of several runs
MUTED = "var(--muted)"
LINE = {"type": "line", "color": "var(--model)", "point": {"color": "var(--model)", "size": 40}}
# In SVG's tags: digits beyond hundredths of a pixel, what is so anyway, and roles of parts of what is one image.
SUPERFLUOUS = (
    r'(?<=\.\d\d)\d+| (?:opacity="1"|stroke-width="1"|pointer-events="none"|class="[^"]*"|aria-hidden="true"'
    r'|aria-roledescription="[^"]*"|role="graphics-[a-z]+"|font-family="[^"]*")'
)
CONFIG = {
    "aria": False,  # the page has a label and a table for each chart
    "font": "Helvetica, Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--text)",
        "titleColor": MUTED,
        "gridColor": "var(--line)",
        "domainColor": MUTED,
        "tickColor": MUTED,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    },
    "legend": {"labelColor": "var(--text)", "labelFontSize": 11, "orient": "top", "title": None, "columnPadding": 30},
}


@dataclass(frozen=True)
class Dot:
    """A row of a dot plot: a value, with its interval if there is one, of so many pairs if that is told."""

    label: str
    value: float
    interval: Sequence[float] | None = None
    kind: str = MODEL
    pairs: int | None = None


def draw(spec: Spec, description: str) -> Markup:
    """The chart as an SVG element, an image with a description to whoever does not see it."""
    options = {"width": WIDTH, "autosize": {"type": "fit-x", "contains": "padding"}, "background": None, "padding": 2}
    svg = vl_convert.vegalite_to_svg({"height": HEIGHT, **options, "config": CONFIG, **spec}, allowed_base_urls=[])
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(SUPERFLUOUS, "", tag[0]), svg)
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1))


def dot_plot(dots: Sequence[Dot], title: str, *, domain: Sequence[float], number: str, reference: float) -> Spec:
    """A line for each dot, with its interval; `reference`, what chance gives, is dashed.

    Args:
        dots: from top to bottom.
        title: of the axis.
        domain: the axis's ends.
        number: d3's format of values.
        reference: on the axis.
    """
    labels = _labels([dot.label for dot in dots])
    # The browser's font may be wider than the one that Vega measures with.
    room = {"minExtent": (extent := LETTER * (max(map(len, labels)) - 2)), "maxExtent": extent}
    y = {"field": "label", "type": "nominal", "title": None, "sort": labels}
    y["axis"] = {"domain": False, "ticks": False, "labelLimit": 0, "labelExpr": LABEL, **room}
    scale = {"domain": list(domain), "nice": False}
    x = {"field": "value", "type": "quantitative", "title": title, "scale": scale}
    x["axis"] = {"format": number, "tickCount": 3}
    colour = _by_kind({kind: f"var(--{kind})" for kind in SHAPES})
    return {
        "height": ROW_HEIGHT * len(dots),
        "data": {"values": [_dot_row(*each) for each in zip(labels, dots, strict=True)]},
        "layer": [
            _reference({"x": {"datum": reference, "type": "quantitative", "scale": scale}}),
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}, "color": colour},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {"y": y, "x": x, "color": colour, "shape": _by_kind(SHAPES)},
            },
        ],
    }


def training_chart(curve: Rows, figure: str, title: str, kept_pairs: int | None) -> Spec:
    """A figure over the pairs seen, of training and of validation; a line where the kept weights are from.

    Args:
        curve: metrics/training_curve.json.
        figure: loss or accuracy.
        title: of the axis.
        kept_pairs: the pairs seen by then.
    """
    of = {figure: "training", f"eval_{figure}": "validation"}
    rows = [
        {"pairs": point["pairs"], "value": point[column], "of": name}
        for column, name in of.items()
        for point in curve
        if point.get(column) is not None
    ]
    looks = {"color": ["var(--rule)", "var(--model)"], "shape": ["circle", "square"]}
    series = {
        channel: {"field": "of", "type": "nominal", "scale": {"domain": list(of.values()), "range": values}}
        for channel, values in looks.items()
    }
    x = {"field": "pairs", "type": "quantitative", "title": "pairs seen", "axis": {"grid": False, "tickCount": 4}}
    y = {"field": "value", "type": "quantitative", "title": title, "scale": {"zero": False}, "axis": {"tickCount": 5}}
    mark = {"type": "line", "strokeJoin": "round", "point": {"size": 28}}
    line = {"mark": mark, "encoding": {"x": x, "y": y, **series}}
    kept = [] if kept_pairs is None else [_reference({"x": {"datum": kept_pairs, "type": "quantitative"}})]
    return {"data": {"values": rows}, "layer": [*kept, line]}


def runs_chart(points: Rows, runs: Sequence[str], title: str) -> Spec:
    """A figure over the pairs seen, a line for each run.

    Args:
        points: run, pairs and value.
        runs: in order.
        title: of the axis.
    """
    looks = {"color": list(RUNS), "strokeDash": [[1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [4, 4]]}
    names = dict(zip(runs, _labels(runs), strict=True))
    series = {
        channel: {"field": "run", "type": "nominal", "scale": {"domain": list(names.values()), "range": values}}
        for channel, values in looks.items()
    }
    x = {"field": "pairs", "type": "quantitative", "title": "pairs seen", "axis": {"grid": False, "tickCount": 4}}
    y = {"field": "value", "type": "quantitative", "title": title, "scale": {"zero": False}, "axis": {"tickCount": 5}}
    rows = [{**point, "run": names[point["run"]]} for point in points]
    mark = {"type": "line", "strokeJoin": "round", "strokeWidth": 2}
    legend = {**CONFIG, "legend": {**CONFIG["legend"], "columns": 1, "labelExpr": LABEL, "symbolType": "stroke"}}
    return {"data": {"values": rows}, "mark": mark, "encoding": {"x": x, "y": y, **series}, "config": legend}


def reliability_chart(bins: Rows) -> Spec:
    """Accuracy by bin of confidence, below it the number of pairs; dashed: what true confidence gives.

    Args:
        bins: confidence, accuracy and pairs.
    """
    x = {"field": "confidence", "type": "quantitative", "title": "confidence", "scale": {"domain": [0.5, 1]}}
    x["axis"] = {"format": "%", "tickCount": 5, "grid": False}
    lowest = min([0.4, *(point["accuracy"] - 0.1 for point in bins)])
    y = {"field": "accuracy", "type": "quantitative", "title": "accuracy", "axis": {"format": "%", "tickCount": 5}}
    y["scale"] = {"domain": [lowest, 1], "nice": False}
    diagonal = [{"confidence": value, "accuracy": value} for value in (0.5, 1)]
    count = {"field": "pairs", "type": "quantitative", "format": ".3~s"}
    return {
        "data": {"values": list(bins)},
        "layer": [
            {**_reference({"x": x, "y": y}, mark="line"), "data": {"values": diagonal}},
            {"mark": LINE, "encoding": {"x": x, "y": y}},
            {
                "mark": {"type": "text", "fontSize": 10, "color": MUTED},
                "encoding": {"x": x, "y": {"value": HEIGHT - 8}, "text": count},
            },
        ],
    }


def margins_chart(bins: Rows) -> Spec:
    """The share of the pairs in each bin of the margin; those below zero are ranked against the label.

    Args:
        bins: margin, the middle of a bin, and share, in the order of the margin.
    """
    half = (bins[1]["margin"] - bins[0]["margin"]) / 2
    rows = [{"low": p["margin"] - half, "high": p["margin"] + half, "share": p["share"]} for p in bins]
    x = {"field": "low", "bin": "binned", "type": "quantitative", "title": "reward of chosen − reward of rejected"}
    y = {"field": "share", "type": "quantitative", "title": "share of pairs", "axis": {"format": "%", "tickCount": 5}}
    colour = {"condition": {"test": "datum.low + datum.high < 0", "value": "var(--wrong)"}, "value": "var(--model)"}
    encoding = {"x": {**x, "axis": {"grid": False, "tickCount": 7}}, "x2": {"field": "high"}, "y": y, "color": colour}
    return {"data": {"values": rows}, "mark": {"type": "bar", "binSpacing": 1}, "encoding": encoding}


def length_chart(bins: Rows, rule: Rows) -> Spec:
    """Accuracy by how many times chosen is longer than rejected; dashed: the rule that the longer response wins.

    Args:
        bins: octaves, the binary logarithm of the ratio, and accuracy.
        rule: the same of the rule.
    """
    names = "{'-2': '¼', '-1': '½', '0': '1', '1': '2', '2': '4'}"
    x: Spec = {"field": "octaves", "type": "quantitative", "title": "times that chosen is as long as rejected"}
    x["axis"] = {"values": [-2, -1, 0, 1, 2], "labelExpr": f"{names}[datum.value]", "grid": False}
    y = {"field": "accuracy", "type": "quantitative", "title": "accuracy", "scale": {"domain": [0, 1]}}
    y["axis"] = {"format": "%", "tickCount": 5}
    return {
        "layer": [
            {**_reference({"x": x, "y": y}, mark="line"), "data": {"values": list(rule)}},
            {"data": {"values": list(bins)}, "mark": LINE, "encoding": {"x": x, "y": y}},
        ],
    }


def _labels(names: Sequence[str]) -> list[str]:
    """Names cut and cleaned, each after its number: Vega would take two that are cut alike for one."""
    lines = [" ".join(clean(name).split()) for name in names]
    cut = [line if len(line) <= MAX_LABEL else f"{line[: MAX_LABEL - 1]}…" for line in lines]
    return [f"{number}\t{line}" for number, line in enumerate(cut)]


def _dot_row(label: str, dot: Dot) -> dict[str, Any]:
    low, high = dot.interval or (None, None)
    return {"label": label, "value": dot.value, "low": low, "high": high, "kind": dot.kind}


def _by_kind(values: dict[str, str]) -> Spec:
    scale = {"domain": list(values), "range": list(values.values())}
    return {"field": "kind", "type": "nominal", "scale": scale, "legend": None}


def _reference(encoding: Spec, mark: str = "rule") -> Spec:
    return {"mark": {"type": mark, "strokeDash": [4, 3], "strokeWidth": 1, "color": MUTED}, "encoding": encoding}
