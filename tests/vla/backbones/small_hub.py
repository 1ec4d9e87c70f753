"""A Hub of one's own: an HTTP server that answers what huggingface_hub asks when it downloads a model."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class SmallHub(ThreadingHTTPServer):
    """Serves the folder of each model it knows; `gated` ones exist, and nobody has accepted their licence."""

    def __init__(self, models: dict[str, Path], *, gated: tuple[str, ...] = ()):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.models, self.gated = models, gated
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(models: dict[str, Path], *, gated: tuple[str, ...] = ()) -> Iterator[SmallHub]:
    with SmallHub(models, gated=gated) as hub:
        threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
        yield hub
        hub.shutdown()


class _Answers(BaseHTTPRequestHandler):
    server: SmallHub

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/").split("/")
        self.server.requests.append("/".join(path))
        is_api = path[:2] == ["api", "models"]
        owner, model, *rest = path[2:] if is_api else path
        name = f"{owner}/{model}"
        if name in self.server.gated:
            self._gated(name, asks_about_it=is_api and not rest)
        elif name not in self.server.models:
            self._answer(404, b"{}", **{"X-Error-Code": "RepoNotFound"})
        elif is_api:
            files = sorted(file for file in self.server.models[name].iterdir() if file.is_file())
            self._json(_tree(files) if rest and rest[0] == "tree" else _about(name, files, gated=False))
        else:
            self._file(self.server.models[name] / rest[-1])

    do_HEAD = do_GET

    def _gated(self, name: str, *, asks_about_it: bool) -> None:
        if asks_about_it:
            self._json(_about(name, [], gated="manual"))
        else:
            self._answer(403, b"{}", **{"X-Error-Code": "GatedRepo"})

    def _file(self, file: Path) -> None:
        if not file.is_file():
            return self._answer(404, b"", **{"X-Error-Code": "EntryNotFound"})
        content = file.read_bytes()
        self._answer(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', **{"X-Repo-Commit": COMMIT})

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), **{"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Not to the tests' output."""


def _about(name: str, files: list[Path], *, gated: bool | str) -> dict:
    siblings = [{"rfilename": file.name} for file in files]
    return {"id": name, "sha": COMMIT, "private": False, "gated": gated, "siblings": siblings}


def _tree(files: list[Path]) -> list[dict]:
    return [
        {
            "type": "file",
            "path": file.name,
            "size": file.stat().st_size,
            "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
        }
        for file in files
    ]
