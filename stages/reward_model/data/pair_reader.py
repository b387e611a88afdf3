"""From the rows of a source to its pairs: which format each row has, what it says, and what of it is not read."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from reward_model.common.errors import InvalidRow, UserError
from reward_model.common.messages import Row, is_unicode
from reward_model.data import rankings
from reward_model.data.chats import SHORT, describe, has_value
from reward_model.data.column_names import list_names, meant_columns
from reward_model.data.label_formats import (
    are_numbered,
    arena_competition_row,
    columns_of_row,
    find_label_format,
    looks_like_label,
    other_side,
)
from reward_model.data.pairs import TIE, Pair, ParsedPairs, checked_pair
from reward_model.data.preferences import Preference, read_preference, to_number
from reward_model.data.row_formats import CONVERSATIONS, Columns, name_pair_format, parse_sides
from reward_model.params import DataParams

# Of the two sides, where a data set has rated both.
SIDE_SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
)
OUTSIDE = math.inf  # a number that is no probability


def columns_of(data: DataParams) -> Columns:
    """The columns that the params name."""
    return Columns(
        data.prompt_column,
        data.chosen_column,
        data.rejected_column,
        data.margin_column,
        data.source_column,
        data.preference_column,
        data.system_column,
        data.preference_format,
        data.min_score_gap,
        data.margin_per_point,
    )


def pair_from_row(row: Row, columns: Columns, default_source: str, *, keep_ties: bool = False) -> Pair:
    """Make a pair of a row with prompt, chosen and rejected, with two conversations, or in a format with a label.

    Where rejected is the preferred one, the sides are swapped.

    Raises:
        InvalidRow: bad_margin, bad_preference, bad_unicode (of a source), missing_value (of a label),
            contradictory_scores, tie (unless `keep_ties`), or as `parse_sides` and `checked_pair`.
    """
    columns = columns_of_row(row, columns)
    prompt, chosen, rejected = parse_sides(row, columns)
    source = row.get(columns.source)
    source = str(source if has_value(source) else default_source)
    if not is_unicode(source):
        raise InvalidRow("bad_unicode", describe(columns.source))
    label = _read_label(row, columns)
    gap = _score_gap(row, columns) if label is None else None
    preference = None if label is None else label.probability
    points = gap if label is None or label.strength is None else label.strength
    margin = _margin(row.get(columns.margin))
    if margin is None and columns.margin_per_point and points is not None:
        margin = columns.margin_per_point * points
    if gap is not None and gap < columns.min_score_gap:
        preference, margin = TIE, None
    if preference is not None and preference < TIE:
        chosen, rejected, preference = rejected, chosen, 1 - preference
    pair = checked_pair(prompt, chosen, rejected, source, margin, preference)
    if pair.is_tie and not keep_ties:
        raise InvalidRow("tie")
    return pair


@dataclass
class PairReader:
    """The rows of a source, read in whatever format each of them has.

    Attributes:
        formats: how many rows had each format.
        names: the columns that were met, in their order.
        labels: of rows with a label that decides which response is better, how often it is the first, the second, none.
        certain: of rows whose label but says how sure it is that chosen is better, how often it is given, absent, below
            0.5 (swapped).
        rated: of rows that rate both sides, how often the rejected one is above the chosen one (True) or not (False).
    """

    columns: Columns
    default_source: str
    keep_ties: bool = False
    formats: Counter[str] = field(default_factory=Counter)
    names: dict[str, None] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    certain: Counter[str] = field(default_factory=Counter)
    rated: Counter[bool] = field(default_factory=Counter)
    _read: set[str] = field(default_factory=set)
    # Of labels, by the columns of their rows: 0, 0.5 and 1, any other probability as NaN, what is none as `OUTSIDE`.
    _numbers: defaultdict[Columns, set[float]] = field(default_factory=lambda: defaultdict(set))

    def expand(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows, with the comparisons of each ranking in its place."""
        return rankings.expand_rankings(map(self._note, map(arena_competition_row, rows)), self.columns)

    def to_pair(self, row: Row) -> Pair:
        """The pair of a row that `expand` gave.

        Raises:
            InvalidRow: as `pair_from_row`, `rankings.comparisons` and `rankings.refuse_unrated_response`.
        """
        if rankings.is_ranking(row, self.columns):  # a bad one, or it would have been expanded
            rankings.comparisons(row, self.columns)
        rankings.refuse_unrated_response(row, self.columns)
        return pair_from_row(row, self.columns, self.default_source, keep_ties=self.keep_ties)

    def check(self, parsed: ParsedPairs, section: str = "data") -> None:
        """Refuse what cannot be told from the rows alone.

        Raises:
            UserError: labels are only 0 and 1, or no probabilities, the columns may hold the worse response as well,
                no row has the column with the label, or not one row gave a pair for want of a column.
        """
        for of_rows, numbers in self._numbers.items():
            named = f"{section}.preference_column {of_rows.preference!r}"
            if numbers & {0.0, 1.0} and numbers <= {0.0, TIE, 1.0} and not _is_certainty(of_rows):
                raise UserError(
                    f"{named} holds only 0 and 1, and it is unclear which means that {of_rows.chosen!r} is better: set "
                    f"{section}.preference_format to probability if it is 1, to index_from_0 if it is 0"
                )
            if OUTSIDE in numbers and math.nan not in numbers:
                raise UserError(
                    f"{named} holds numbers that are no probabilities: set {section}.preference_format to index_from_1 "
                    f"if 1 means that {of_rows.chosen!r} is better and 2 {of_rows.rejected!r}; to signed if a number "
                    "below 0 means the first and one above the second; divide percentages by 100"
                )
        columns, of_two = self.columns, _are_numbered(self.columns)
        labels = self._unused_labels()
        if labels and of_two and columns.chosen in self.names:
            raise UserError(
                f"{columns.chosen!r} and {columns.rejected!r} must hold the better and the worse response of every "
                f"row, but there is a column {SHORT.repr(labels[0])}: if it says which one is better, set "
                f"{section}.preference_column to it, and {section}.preference_format; else rename it"
            )
        self._require_label(parsed, section)
        self._require_columns(parsed, section)

    def notes(self) -> list[str]:
        """Lines about the formats that were found, and what was not read."""
        formats = ", ".join(f"{name} {rows}" for name, rows in self.formats.most_common())
        found = [f"formats: {formats}"] if formats else []
        if self._unread:
            found.append(f"columns not read: {list_names(self._unread, describe)}")
        if self.formats["rated responses"]:
            found.append("note: rated responses to one prompt are compared only where their rows follow one another")
        if (labels := self._unused_labels()) and self.columns.chosen in self.names:
            found.append(
                f"note: if {SHORT.repr(labels[0])} says which response is better, set data.preference_column to it: "
                f"now {self.columns.chosen!r} is taken for the better one of every row"
            )
        name, given, absent = self.columns.preference, self.certain["given"], self.certain["absent"]
        if swapped := self.certain["swapped"]:
            found.append(
                f"note: {swapped} of {given} {name!r} are below 0.5: rejected is taken for the better response"
            )
        if given and absent:
            found.append(f"note: {absent} rows without a {name!r} are taken for certain, as with 1; {given} have one")
        if (contradicting := self.rated[True]) > self.rated[False]:
            found.append(
                f"warning: in {contradicting} of {self.rated.total()} rows the rejected response is rated above the "
                "chosen one: if a higher rating is a better one, the two columns are the wrong way round"
            )
        return found

    def _note(self, row: Row) -> Row:
        """Count the row's format, and what is read of it."""
        self.names.update(dict.fromkeys(map(str, row)))
        columns = columns_of_row(row, self.columns)
        label_format = find_label_format(row, self.columns)
        self._read |= {columns.prompt, columns.chosen, columns.rejected, columns.margin, columns.source, columns.system}
        self._read |= {columns.preference, "tools"}
        if row.get(columns.prompt) is None:
            self._read.add(CONVERSATIONS)
        if rankings.is_ranking(row, columns):
            name, read = "ranking", rankings.READ
        elif rankings.is_rated_response(row, columns):
            name, read = "rated responses", rankings.READ
        else:
            name, read = label_format.name if label_format else name_pair_format(row, columns), set()
            self._note_label(row, columns)
            if (gap := _rated_gap(row)) is not None and not has_value(row.get(columns.preference)):
                self.rated[gap < 0] += 1
        self._read |= read
        if self._scores_are_read():
            self._read |= {name for names in SIDE_SCORES for name in names}
        self.formats[name] += 1
        return row

    def _note_label(self, row: Row, columns: Columns) -> None:
        number = to_number(row.get(columns.preference))
        if columns.preference_format == "auto" and number is not None:
            is_probability = 0 <= number <= 1
            self._numbers[columns].add(number if number in (0, TIE, 1) else math.nan if is_probability else OUTSIDE)
        with suppress(InvalidRow):
            better = _better_response(_read_label(row, columns))
            if _is_certainty(columns):
                self.certain.update([*(["swapped"] if better == "second" else []), "given" if better else "absent"])
            elif better:
                self.labels[better] += 1

    def _scores_are_read(self) -> bool:
        return bool(self.columns.min_score_gap or self.columns.margin_per_point)

    @property
    def _unread(self) -> list[str]:
        return [name for name in self.names if name not in self._read]

    def _unused_labels(self) -> list[str]:
        if self.columns.preference in self.names and not _is_certainty(self.columns):
            return []  # the label is another column
        return [name for name in self._unread if looks_like_label(name) and other_side(name) not in self.names]

    def _require_label(self, parsed: ParsedPairs, section: str) -> None:
        name = self.columns.preference
        is_missing = any(
            (row["reason"], row.get("detail")) == ("missing_value", describe(name)) for row in parsed.rejects
        )
        if is_missing and name not in self.names:
            found = list_names(sorted(self.names), SHORT.repr)
            raise UserError(
                f"no column {name!r} in the data, to say which response is better; it has {found}: set "
                f"{section}.preference_column to one of them. If it is the same one in every row, name the columns "
                "after that"
            )

    def _require_columns(self, parsed: ParsedPairs, section: str) -> None:
        """Tell a file whose rows all lack a column from one with a few bad rows."""
        reasons = {reject["reason"] for reject in parsed.rejects}
        is_ranked = self.formats.keys() & {"ranking", "rated responses"}
        if parsed.pairs or not reasons & ({"no_prompt"} if is_ranked else {"missing_column", "no_prompt"}):
            return
        wanted_parts = ("prompt",) if is_ranked else ("chosen", "rejected", "prompt")
        missing = [name for name in wanted_parts if getattr(self.columns, name) not in self.names]
        if not missing:
            raise UserError("the columns are there, but no row has a value in all of them")
        keys = [f"{section}.{name}_column" for name in missing]
        wanted = ", ".join(repr(getattr(self.columns, name)) for name in missing)
        found = list_names(sorted(self.names), SHORT.repr)
        message = f"no column {wanted} in the data; it has {found}: set"
        meant = meant_columns({name: getattr(self.columns, name) for name in missing}, self._unread)
        if None not in meant and len(set(meant)) == len(meant):
            targets = [f"{key} to {SHORT.repr(name)}" for key, name in zip(keys, meant, strict=True)]
            raise UserError(f"{message} {', '.join(targets)}")
        if len(missing) == 3 and any(len(name) > 40 or name.count(" ") > 2 for name in self.names):
            raise UserError(
                f"no column {wanted} in the data; it has {found}: these look like texts, so the file seems to have no "
                "header line: write the columns' names above its rows, such as prompt,chosen,rejected; if they are "
                f"names, set {' and '.join(keys)} to those that are meant"
            )
        message = f"{message} {' and '.join(keys)} to one of them"
        if missing == ["prompt"]:
            raise UserError(message)
        label = "".join(f" {SHORT.repr(name)}" for name in self._unused_labels()[:1])
        raise UserError(
            f"{message}; chosen and rejected must hold the better and the worse response of every row: where a "
            f"label{label} says which that is, set {section}.preference_column, too. Data "
            "with one response a row (SFT, KTO) has no pairs, and columns within columns are not read"
        )


def _are_numbered(columns: Columns) -> bool:
    return are_numbered(columns.chosen, columns.rejected)


def _is_certainty(columns: Columns) -> bool:
    """Whether the label but says how sure it is that chosen is better."""
    return columns.preference == Columns.preference and not _are_numbered(columns)


def _better_response(label: Preference | None) -> str | None:
    if label is None:
        return None
    return "tie" if label.probability == TIE else "first" if label.probability > TIE else "second"


def _read_label(row: Row, columns: Columns) -> Preference | None:
    label = read_preference(row.get(columns.preference), columns.preference_format, columns.chosen, columns.rejected)
    if label is None:
        is_named = columns.preference != Columns.preference or columns.preference_format not in ("auto", "probability")
        if is_named or _are_numbered(columns):  # then chosen is but the first of two
            raise InvalidRow("missing_value", describe(columns.preference))
    return label


def _score_gap(row: Row, columns: Columns) -> float | None:
    """By how much chosen is rated higher, if that matters and both are rated."""
    gap = _rated_gap(row) if columns.min_score_gap or columns.margin_per_point else None
    if gap is not None and gap < 0:
        raise InvalidRow("contradictory_scores")
    return gap


def _rated_gap(row: Row) -> float | None:
    """The rating of chosen less that of rejected, where both have one."""
    for names in SIDE_SCORES:
        chosen, rejected = (to_number(row.get(name)) for name in names)
        if chosen is not None and rejected is not None and math.isfinite(chosen - rejected):
            return chosen - rejected
    return None


def _margin(value: Any) -> float | None:
    """A margin; NaN is none, as pandas has it."""
    if value is None or value == "":
        return None
    margin = to_number(value)
    if margin is not None and math.isnan(margin):
        return None
    if margin is None or not math.isfinite(margin) or margin < 0:
        raise InvalidRow("bad_margin")
    return margin
