"""A local HTTP server that answers the calls the Hugging Face libraries make to download, and to upload a model."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def hub_environment(address: str, home: Path) -> dict[str, str]:
    """The environment of a process that goes to the hub at an address, with its cache in `home`."""
    inherited = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    hub = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_TOKEN": "hf_x", "HF_HUB_DISABLE_XET": "1"}
    return inherited | hub


@contextmanager
def serve_hub(repositories: dict[str, Path], uploads: Path = Path("/nonexistent")) -> Iterator[str]:
    """Serve folders as `models/owner/name` or `datasets/owner/name`, at one commit; gives the address.

    What is uploaded lands in `uploads/owner/name`, and what was asked when it was created in `uploads/created.json`.
    What is served from the start is public, and what is created is private.
    """
    handler = type("Handler", (_Handler,), {"repositories": {**repositories}, "uploads": uploads, "created": set()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
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
    uploads: Path
    created: set[str]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self._body()
        path = urlsplit(self.path).path
        if path == "/api/repos/create":
            (self.uploads).mkdir(parents=True, exist_ok=True)
            (self.uploads / "created.json").write_bytes(body)
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            is_new = f"models/{name}" not in self.repositories
            if is_new:
                self.repositories[f"models/{name}"] = self.uploads / name
                self.created.add(name)
            self._send_json({"url": f"{self._address}/{name}", "id": name}, 200 if is_new else 409)
        elif match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            large = (".safetensors", ".onnx")
            modes = [
                {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(large) else "regular"}
                for file in json.loads(body)["files"]
            ]
            self._send_json({"files": [mode | {"shouldIgnore": False} for mode in modes]})
        elif match := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            objects = [
                {**item, "actions": {"upload": {"href": f"{self._address}/lfs/{item['oid']}"}}}
                for item in json.loads(body)["objects"]
            ]
            self._send_json({"transfer": "basic", "objects": objects})
        elif match := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            self._commit(self.uploads / match[1], body)
            self._send_json({"commitUrl": f"{self._address}/{match[1]}/commit/{COMMIT}", "commitOid": COMMIT})
        elif path == "/api/validate-yaml":
            self._send_json({"errors": [], "warnings": []})
        else:
            self._answer(json.loads(body or b"{}"))

    def do_PUT(self) -> None:
        (self.uploads / self.path.split("/")[-1]).write_bytes(self._body())
        self._send_json({})

    @property
    def _address(self) -> str:
        return f"http://{self.headers['Host']}"

    def _commit(self, folder: Path, body: bytes) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                (folder / entry["value"]["path"]).write_bytes(base64.b64decode(entry["value"]["content"]))
            elif entry["key"] == "lfsFile":
                (self.uploads / entry["value"]["oid"]).rename(folder / entry["value"]["path"])
            elif entry["key"] == "deletedFile":
                (folder / entry["value"]["path"]).unlink()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

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
        return {
            "id": name,
            "sha": COMMIT,
            "siblings": siblings,
            "private": name in self.created,
            "tags": [],
            "downloads": 0,
        }

    def _send_file(self, path: Path) -> None:
        self._send(200, path.read_bytes(), {"ETag": f'"{_sha1(path)}"', "X-Repo-Commit": COMMIT})

    def _send_json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _sha1(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
