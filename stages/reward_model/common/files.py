"""Outputs that appear whole or not at all, byte for byte the same for the same content."""

import csv
import errno
import hashlib
import json
import lzma
import shutil
import uuid
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from reward_model.common.errors import UserError, first_line

PROVENANCE_FILE = "provenance.json"  # in an output's folder: the params and package versions that made it
CHECKSUMS_FILE = "SHA256SUMS"  # in a model's folder: as `sha256sum` writes and checks it
ADAPTER_FOLDER = "adapter"  # in a model's folder: as peft saves it, where it was trained with LoRA
DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
TORCH_SIGNS = ("PytorchStreamWriter failed", "inline_container")
MODEL_SUFFIXES = {".safetensors", ".onnx", ".data", ".json", ".jinja"}  # of files that a loader may take for a model's


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it takes `target`'s place when the block ends without an error.

    What an earlier, killed run left beside `target` is removed first.

    Raises:
        UserError: the disk is full, or the place cannot be written to.
    """
    staging = _staging_path(target)
    try:
        staging.mkdir()
        yield staging
        if target.exists():
            retired = _staging_path(target, clean=False)
            target.replace(retired)
            staging.replace(target)
            shutil.rmtree(retired)
        else:
            staging.replace(target)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        _tell_of_the_disk(target, error)
        raise


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Give a path to write; the file takes `target`'s place when the block ends without an error.

    Raises:
        UserError: the disk is full, or the place cannot be written to.
    """
    staging = _staging_path(target)
    try:
        yield staging
        staging.replace(target)
    except BaseException as error:
        staging.unlink(missing_ok=True)
        _tell_of_the_disk(target, error)
        raise


def is_disk_trouble(error: BaseException) -> bool:
    """Whether writing failed for want of space or of permission, whichever library was writing."""
    if isinstance(error, OSError):
        return error.errno in DISK_TROUBLE
    text = str(error)
    # safetensors tells the number; torch.save says that its file is not as long as it should be.
    return any(f"os error {number})" in text for number in DISK_TROUBLE) or any(sign in text for sign in TORCH_SIGNS)


def _tell_of_the_disk(target: Path, error: BaseException) -> None:
    if is_disk_trouble(error):
        raise UserError(f"cannot write {target}: {first_line(error)}") from None


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 with LF line ends; a lone surrogate becomes its escape, which JSON reads back."""
    with new_file(target) as path:
        path.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_json(target: Path, value: Any) -> None:
    """Write sorted keys, two spaces of indent, and no NaN (a `ValueError`)."""
    write_text(target, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(target: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one object a line, keys sorted; values that JSON has no form for (dates, bytes) as text."""
    lines = (json.dumps(row, sort_keys=True, ensure_ascii=False, default=str) for row in rows)
    with new_file(target) as path, path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


def read_json(path: Path) -> Any:
    """Read a JSON file that an earlier stage made.

    Raises:
        UserError: the file is absent or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing_input(path) from None
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a file of one object a line that an earlier stage made.

    Raises:
        UserError: the file is absent.
    """
    return list(stream_jsonl(path))


def stream_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """As `read_jsonl`, an object at a time."""
    return map(json.loads, stream_lines(path))


def stream_lines(path: Path) -> Iterator[str]:
    """The lines of a file that an earlier stage made.

    Raises:
        UserError: the file is absent.
    """
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            yield from file
    except FileNotFoundError:
        raise missing_input(path) from None


def missing_input(path: Path) -> UserError:
    """The error for a file that an earlier stage makes and that is not there."""
    return UserError(f"{path} is missing: run `dvc repro`, which makes it")


def hash_file(path: Path) -> str:
    """The file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_folder(folder: Path) -> str:
    """One SHA-256 over the names and contents of all files below `folder`."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {hash_file(path)}\n".encode())
    return digest.hexdigest()


def hash_model_files(folder: Path) -> str:
    """One SHA-256 over the names and contents of the files in `folder` that a loader may take for a model's."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in MODEL_SUFFIXES):
        digest.update(f"{path.name} {hash_file(path)}\n".encode())
    return digest.hexdigest()


@contextmanager
def reading(source: str | Path) -> Iterator[None]:
    """Tell of a file that is absent, forbidden or damaged as a `UserError`."""
    try:
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError, csv.Error) as error:
        raise UserError(f"{source} cannot be read: {' '.join(str(error).split())}") from None


@contextmanager
def writing(target: str | Path) -> Iterator[None]:
    """Tell of a full disk or a forbidden folder as a `UserError`."""
    try:
        yield
    except BrokenPipeError:  # whoever read stdout has had enough
        raise
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from None


def write_checksums(folder: Path, unlisted: Collection[str] = ()) -> None:
    """List the SHA-256 of every file in `folder`, but of model cards and of what lies in the folders `unlisted`."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".md")
    names = sorted(path.as_posix() for path in paths if path.name != CHECKSUMS_FILE and path.parts[0] not in unlisted)
    write_text(folder / CHECKSUMS_FILE, "".join(f"{hash_file(folder / name)}  {name}\n" for name in names))


def check_checksums(folder: Path, unread: Collection[str] = ()) -> None:
    """Make sure that the files of `folder` are those that `write_checksums` saw.

    Args:
        folder: a model's.
        unread: the suffixes of large files that the caller does not read: they need not be right, or there.

    Raises:
        UserError: the list or a file is missing, a file is another than it was, or one was added that could be read
            as part of the model.
    """
    try:
        lines = (folder / CHECKSUMS_FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{folder / CHECKSUMS_FILE} is missing or unreadable: is {folder} a model made here?") from None
    listed = {name: expected for expected, _, name in (line.partition("  ") for line in lines)}
    for path in folder.iterdir():
        if path.suffix in MODEL_SUFFIXES and path.name not in listed:
            raise UserError(f"{path} is not of this model: remove it, or run `dvc repro`")
    for name, expected in listed.items():
        path = folder / name
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"{folder / CHECKSUMS_FILE} lists {name}, which is not in the folder")
        if path.suffix in unread:
            continue
        if not path.is_file():
            raise UserError(f"{path} is missing: copy the model's folder again, or run `dvc repro`")
        if hash_file(path) != expected:
            raise UserError(f"{path} is damaged or altered: copy the model's folder again, or run `dvc repro`")


def _staging_path(target: Path, *, clean: bool = True) -> Path:
    """A new hidden name beside `target`, on the same file system, so that renaming is atomic."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if clean:
            for left_over in target.parent.glob(f".{target.name}.*.tmp"):
                shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}") from None
    return target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"
