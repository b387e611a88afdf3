"""Pairs of several sources: joined, and chosen in shares."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from reward_model.common.errors import UserError
from reward_model.data.pairs import AnyPair, PairLike, ParsedPairs, digest, find_repeats
from reward_model.data.readers import ReadReport
from reward_model.data.splits import choose_pairs
from reward_model.params import DataParams, DataSource


def add_rejects(parsed: ParsedPairs[Any], report: ReadReport) -> None:
    """Count the rows that could not be read, too."""
    for reason, row in report.rejects:
        parsed.rows += 1
        parsed.reject(reason, row)


@dataclass(frozen=True)
class Mixture:
    """The pairs of several sources.

    Attributes:
        paths: of the sources.
        weights: of each source, if its share of the training pairs is to be proportional to it.
        parsed: what became of all rows.
        rows: of each source.
        labels: of each source, rows by what their label says.
        source_by_id: the place of a pair's source, by the pair's id.
    """

    paths: list[str]
    weights: list[float] | None
    parsed: ParsedPairs[Any]
    rows: list[int]
    labels: list[dict[str, int]]
    source_by_id: dict[str, int]

    @classmethod
    def join(cls, paths: list[str], weights: list[float] | None, sources: Sequence[ParsedPairs[Any]]) -> "Mixture":
        """Put the sources together, without the pairs that repeat or contradict those of another source."""
        pairs = [(place, pair) for place, source in enumerate(sources) for pair in source.pairs]
        formats = sum((Counter(source.formats) for source in sources), Counter[str]())
        parsed = ParsedPairs[Any](sum(source.rows for source in sources), formats=dict(formats))
        for source in sources:
            parsed.rejects.extend(source.rejects)
        source_by_id = {}
        for (place, pair), reason in zip(pairs, find_repeats([pair for _, pair in pairs]), strict=True):
            if reason is None:
                parsed.pairs.append(pair)
                source_by_id[pair.id] = place
            else:
                parsed.reject(reason, pair.load().to_record())
        rows, labels = [source.rows for source in sources], [source.labels for source in sources]
        return cls(paths, weights, parsed, rows, labels, source_by_id)

    def choose(self, pairs: Iterable[AnyPair], count: int, seed: int) -> list[AnyPair]:
        """As `choose_pairs`, and so that each source has its share: as many pairs as the scarcest source allows.

        Raises:
            UserError: a source has no pairs.
        """
        if self.weights is None:
            return choose_pairs(pairs, count, seed)
        by_source = defaultdict(list)
        for pair in pairs:
            by_source[self.source_by_id[pair.id]].append(pair)
        if empty := [path for place, path in enumerate(self.paths) if not by_source[place]]:
            raise UserError(f"data.sources: {empty[0]} gives no pair to train on, so that it can have no share")
        shares = [weight / sum(self.weights) for weight in self.weights]
        total = min(count, *(len(by_source[place]) / share for place, share in enumerate(shares)))
        chosen = [choose_pairs(by_source[place], round(total * share), seed) for place, share in enumerate(shares)]
        return choose_pairs([pair for own in chosen for pair in own], count, seed)

    def counts(self, splits: Mapping[str, Sequence[PairLike]]) -> dict[str, Any]:
        """Rows, pairs kept, and pairs of each split, by source."""
        kept = Counter(self.source_by_id.values())
        return {
            path: {
                "rows": self.rows[place],
                "kept": kept[place],
                **({"labels": self.labels[place]} if self.labels[place] else {}),
                **{
                    name: sum(self.source_by_id.get(pair.id) == place for pair in pairs)
                    for name, pairs in splits.items()
                },
            }
            for place, path in enumerate(self.paths)
        }


def params_of_sources(sources: Iterable[DataSource], data: DataParams) -> list[DataParams]:
    """The params of each source: its own, and those of `data` where it has none."""
    given = [{name: value for name, value in asdict(own).items() if value is not None} for own in sources]
    return [replace(data, sources=None, **{name: own[name] for name in own if name != "weight"}) for own in given]


def limit_per_prompt(pairs: Iterable[AnyPair], most: int, seed: int) -> list[AnyPair]:
    """Up to `most` pairs of each prompt, chosen by the seed."""
    taken: Counter[str] = Counter()
    chosen = []
    for pair in sorted(pairs, key=lambda pair: digest(str(seed), pair.id)):
        taken[pair.prompt_id] += 1
        if taken[pair.prompt_id] <= most:
            chosen.append(pair)
    return chosen
