"""The picture of a README: the accuracy of the model, each rule and each reference model on each set, as Vega-Lite."""

from collections.abc import Mapping, Sequence
from typing import Any

from reward_model.evaluation.report import NAMES, heldout_first

MODEL = "the reward model"
RULE = "a simple rule"
REFERENCE = "another reward model"
COLOURS = {MODEL: "#1f6fb4", RULE: "#757575", REFERENCE: "#8b3fa0"}


def accuracy_chart(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One panel a set; in it a line for the model and for each rule, with its 95% interval where there is one.

    Args:
        figures: metrics/eval.json.
    """
    rows = [row for name, own in heldout_first(figures).items() for row in _rows(name, own)]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "padding": 10,
        "data": {"values": rows},
        "facet": {"field": "set", "type": "nominal", "title": None, "sort": [row["set"] for row in rows]},
        "columns": 2,
        "spec": {"width": 250, "height": 130, "layer": _layers(_order(rows))},
        "config": {
            "font": "Helvetica, Arial, sans-serif",
            "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 200},
            "header": {"labelFontSize": 13, "labelFontWeight": "bold"},
            "view": {"stroke": None},
        },
    }


def _rows(name: str, figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    title = f"{name}: {figures['n']} pairs"
    intervals = figures.get("baselines_ci95", {})
    rows = [_row(title, MODEL, MODEL, figures["accuracy"], figures["accuracy_ci95"])]
    for rule, label in NAMES.items():
        rows.append(_row(title, label, RULE, figures["baselines"][rule], intervals.get(rule)))
    for other, own in figures.get("reference_models", {}).items():
        rows.append(_row(title, other, REFERENCE, own["accuracy"], own["accuracy_ci95"]))
    return rows


def _row(title: str, label: str, kind: str, accuracy: float, interval: Sequence[float] | None) -> dict[str, Any]:
    low, high = interval or (None, None)
    text = f"{accuracy:.1%}"
    return {"set": title, "who": label, "kind": kind, "accuracy": accuracy, "low": low, "high": high, "text": text}


def _order(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["who"] for row in rows))


def _layers(order: Sequence[str]) -> list[dict[str, Any]]:
    y = {"field": "who", "type": "nominal", "title": None, "sort": order, "axis": {"domain": False, "ticks": False}}
    scale = {"domain": [0, 1]}
    x = {"field": "accuracy", "type": "quantitative", "scale": scale, "axis": {"format": "%", "tickCount": 5}}
    x["title"] = "accuracy, 95% interval (dashed: chance)"
    low = {**x, "field": "low"}
    colours = {"domain": list(COLOURS), "range": list(COLOURS.values())}
    colour = {"field": "kind", "type": "nominal", "title": None, "scale": colours, "legend": None}
    has_interval = [{"filter": "datum.low !== null"}]
    return [
        {
            "mark": {"type": "rule", "strokeDash": [4, 3], "color": "#bbbbbb"},
            "encoding": {"x": {"datum": 0.5, "type": "quantitative", "scale": scale}},
        },
        {
            "transform": has_interval,
            "mark": {"type": "rule", "strokeWidth": 2.5},
            "encoding": {"y": y, "x": low, "x2": {"field": "high"}, "color": colour},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 75, "opacity": 1},
            "encoding": {"y": y, "x": x, "color": colour},
        },
        {
            "mark": {"type": "text", "dy": -9, "fontSize": 11},
            "encoding": {"y": y, "x": x, "text": {"field": "text"}, "color": colour},
        },
    ]
