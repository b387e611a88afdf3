"""Shards of rows, and the folder that their scored copies go to.

A shard in the folder is complete: until then it is below `UNFINISHED`. `MANIFEST` names what the folder was made with,
so that the same command goes on with it, and another is refused.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reward_model.common.errors import UserError
from reward_model.common.files import hash_file, read_json, write_json, writing
from reward_model.data.readers import file_format, find_files, open_rows
from reward_model.data.row_streams import STDIO, compression
from reward_model.scoring.file_scoring import FileReport, result_schema
from reward_model.scoring.row_sinks import SINKS

MANIFEST = "manifest.json"
UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class Shard:
    """A file of rows, and its name in the output folder."""

    source: Path
    name: str


def find_shards(inputs: Sequence[str], output: Path) -> list[Shard]:
    """The shards in the order of the inputs: files, folders, and patterns such as `rows/*.jsonl`.

    Those of a folder keep their place below it. What lies in the output folder is left out.

    Raises:
        UserError: nothing is there, or two shards would get one name.
    """
    shards = [shard for text in inputs for shard in _shards_at(text, output.resolve())]
    first: dict[str, Path] = {}
    for shard in shards:
        if other := first.get(shard.name):
            raise UserError(f"{other} and {shard.source} would both become {output / shard.name}: rename one")
        first[shard.name] = shard.source
    return shards


def _shards_at(text: str, output: Path) -> list[Shard]:
    if text == STDIO:
        raise UserError("workers read files, not stdin")
    place = Path(text)
    shards = [
        Shard(file, _output_name(file.relative_to(place) if place.is_dir() else Path(file.name)))
        for file in find_files(text, "--input").files
        if output not in file.resolve().parents
    ]
    if not shards:
        raise UserError(f"{text}: no file of rows is there, or in the output folder only")
    return shards


def _output_name(path: Path) -> str:
    """The name itself if such files are written: none is compressed, and of the other formats rows go to JSON Lines."""
    plain = path.with_suffix("") if compression(path.name) else path
    return (plain if file_format(plain.name) in SINKS else plain.with_suffix(".jsonl")).as_posix()


def check_columns(shards: Sequence[Shard]) -> None:
    """Make sure that all shards can be read and scored, and have the same columns.

    Raises:
        UserError: which cannot, or has others.
    """
    first = None
    for number, shard in enumerate(shards):
        with open_rows(str(shard.source)) as stream:
            result_schema(stream, str(shard.source))
            if number == 0:
                first = stream.schema
            elif stream.schema != first:
                raise UserError(
                    f"{shard.source} has {_described(stream.schema)}, {shards[0].source} has {_described(first)}: "
                    "score them into folders of their own"
                )


def _described(schema: Mapping[str, Any] | None) -> str:
    if schema is None:
        return "no fixed columns"
    types = (getattr(of, "__name__", str(of)) for of in schema.values())
    return "the columns " + ", ".join(f"{name} ({of})" for name, of in zip(schema, types, strict=True))


class ShardFolder:
    """The folder of the scored shards, and its manifest. Nothing is written before `begin`.

    Args:
        folder: need not be there.
        settings: what the rewards depend on: the model, and the options.
        shards: those that are to be in it.

    Raises:
        UserError: the folder holds something else, or was made with other settings or inputs.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str | int | None], shards: Iterable[Shard]) -> None:
        self.folder = folder
        inputs = {shard.name: hash_file(shard.source) for shard in shards}
        self._manifest: dict[str, Any] = {"settings": dict(settings), "inputs": inputs, "finished": {}, "scorer": None}
        path = folder / MANIFEST
        if path.is_file():
            self._check(read_json(path))
        elif folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise UserError(f"{folder} was not made by this command: give a new folder, or an empty one")

    def _check(self, found: Any) -> None:
        if not isinstance(found, dict) or found.keys() != self._manifest.keys():
            raise UserError(f"{self.folder / MANIFEST} was not made by this command: give a new folder")
        for name, value in self._manifest["settings"].items():
            if found["settings"].get(name) != value:
                raise UserError(f"{self.folder} was made with another {name}: give another folder")
        inputs = self._manifest["inputs"]
        for name in sorted({*inputs, *found["inputs"]}):
            if inputs.get(name) != found["inputs"].get(name):
                raise UserError(f"{self.folder} was made of other inputs ({name} differs): give another folder")
        self._manifest = found

    def begin(self, fingerprint: str, max_length: int) -> None:
        """Write the manifest.

        Args:
            fingerprint: the scorer's.
            max_length: the model's, in tokens.

        Raises:
            UserError: the folder was made by a scorer whose rewards may differ, or cannot be written.
        """
        scorer = {"fingerprint": fingerprint, "max_length": max_length}
        if self._manifest["scorer"] not in (None, scorer):
            before = self._manifest["scorer"]["fingerprint"]
            raise UserError(f"{self.folder} was computed with {before}, not {fingerprint}: give another folder")
        self._manifest["scorer"] = scorer
        self._save()

    @property
    def max_length(self) -> int:
        """The model's, in tokens, after `begin`."""
        return self._manifest["scorer"]["max_length"]

    def is_finished(self, shard: Shard) -> bool:
        """Whether the shard needs no more work."""
        return shard.name in self._manifest["finished"] and (self.folder / shard.name).exists()

    def unfinished(self, shard: Shard) -> Path:
        """Where the shard is written until it is complete."""
        return self.folder / UNFINISHED / shard.name

    def finish(self, shard: Shard, report: FileReport) -> None:
        """Move the complete shard to its place."""
        # The record first: whoever finds the shard there must know what became of its rows.
        self._manifest["finished"][shard.name] = asdict(report)
        self._save()
        target = self.folder / shard.name
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            self.unfinished(shard).replace(target)

    def end(self) -> FileReport:
        """What became of all rows, once all shards are finished."""
        with writing(self.folder):
            shutil.rmtree(self.folder / UNFINISHED, ignore_errors=True)
        reports = self._manifest["finished"]
        sums = (sum(report[name] for report in reports.values()) for name in ("rows", "errors", "cut"))
        errors = ((name, report["first_error"]) for name, report in sorted(reports.items()))
        return FileReport(*sums, first_error=next((f"{name}, {error}" for name, error in errors if error), None))

    def rows_finished(self, shard: Shard) -> int:
        """The rows of a finished shard."""
        return self._manifest["finished"][shard.name]["rows"]

    def _save(self) -> None:
        write_json(self.folder / MANIFEST, self._manifest)
