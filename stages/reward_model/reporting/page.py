"""The report as one HTML file that loads nothing: its charts are drawn, its style and script are within."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reward_model.evaluation import worst_pairs
from reward_model.reporting import pair_texts
from reward_model.reporting.changed_pairs import MAX_CHANGED, ChangedPairs
from reward_model.reporting.clean import clean
from reward_model.reporting.comparison import Run, compare
from reward_model.reporting.pair_texts import PairView
from reward_model.reporting.sections import Metrics, data_section, params_section, set_sections, training_section
from reward_model.reporting.summary import summary_rows, verdict_sentence

FOLDER = Path(__file__).parent
MAX_BYTES = 5_000_000
SPARE = 100_000  # bytes for what stands around the pairs


def render_page(metrics: Metrics, params: Mapping[str, Any], views: Sequence[Sequence[PairView]] | None) -> str:
    """The report.

    Args:
        metrics: what it shows.
        params: params.yaml.
        views: the pairs of each set to show, as many as `MAX_BYTES` has room for; None for a page without any texts.
    """
    defaults = yaml.safe_load((FOLDER / "default_params.yaml").read_text(encoding="utf-8"))
    shared = [training_section(metrics), data_section(metrics), params_section(params, defaults)]
    context = {
        "title": "Reward model: evaluation",
        "verdict": verdict_sentence(metrics.eval),
        "summary": summary_rows(metrics.eval),
        "sections": [*set_sections(metrics), *shared],
    }
    return _render(context, views=None) if views is None else _render_with_pairs(context, views)


def render_comparison(runs: Sequence[Run], changes: ChangedPairs) -> str:
    """The page that shows runs side by side.

    Args:
        runs: two or more.
        changes: the pairs whose verdict changed; the page shows as many as `MAX_BYTES` has room for.
    """
    verdict, sections = compare(runs)
    context = {"title": "Reward models: comparison", "verdict": verdict, "summary": None, "sections": sections}
    of_runs = {"runs": [run.name for run in runs], "changed": changes.count, "changed_limit": MAX_CHANGED}
    return _render_with_pairs({**context, **of_runs}, changes.views)


def _render_with_pairs(context: Mapping[str, Any], views: Sequence[Sequence[PairView]]) -> str:
    room = MAX_BYTES - len(_render(context, views=None).encode("utf-8", "backslashreplace")) - SPARE
    kept = pair_texts.within(views, room)
    shown = [view for own in kept for view in own]
    left_out = sum(map(len, views)) - len(shown)
    return _render(context, views=shown, left_out=left_out, sources=pair_texts.sources(kept))


def _render(context: Mapping[str, Any], **pairs: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script, style = ((FOLDER / name).read_text(encoding="utf-8") for name in ("report.js", "report.css"))
    fixed = {
        "style": style,
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "limits": worst_pairs,
        "runs": None,
    }
    return environment.get_template("report.html.jinja").render({**fixed, **context, **pairs})
