"""A local HTTP server that answers the calls the Hugging Face libraries make to download a model or a data set."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve_hub(repositories: dict[str, Path]) -> Iterator[str]:
    """Serve folders as `models/owner/name` or `datasets/owner/name`, at one commit; gives the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"repositories": repositories}))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    repositories: dict[str, Path]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self._answer(json.loads(self.rfile.read(length) or b"{}"))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, body: dict[str, Any] | None = None) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(
            r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(/.*)?)?", path
        ):
            kind, name, what, revision, below = match.groups()
            folder = self.repositories.get(f"{kind}/{name}")
            if folder is None or revision not in (None, "main", COMMIT):
                return self._send(
                    404, b"{}", {"X-Error-Code": "RepoNotFound" if folder is None else "RevisionNotFound"}
                )
            return self._send_json(self._describe(folder, name, what, below, body))
        if match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind, name, _, file = match.groups()
            target = self.repositories.get(f"{kind or 'models/'}{name}", Path("/nonexistent")) / file
            if target.is_file():
                return self._send_file(target)
        return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    def _describe(self, folder: Path, name: str, what: str | None, below: str | None, body: Any) -> Any:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if what in ("tree", "paths-info"):
            wanted = (body or {}).get("paths")
            prefix = (below or "").strip("/")
            return [
                {"type": "file", "path": relative, "size": path.stat().st_size, "oid": _sha1(path)}
                for path in files
                if (relative := path.relative_to(folder).as_posix()).startswith(prefix)
                and (wanted is None or relative in wanted)
            ]
        siblings = [{"rfilename": path.relative_to(folder).as_posix()} for path in files]
        return {"id": name, "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0}

    def _send_file(self, path: Path) -> None:
        self._send(200, path.read_bytes(), {"ETag": f'"{_sha1(path)}"', "X-Repo-Commit": COMMIT})

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _sha1(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
