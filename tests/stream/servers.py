"""Real servers for remote streams, started by the tests: nginx, an S3 endpoint, and one that fails as it is told."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

S3_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@dataclass
class Served:
    """A server, and what it has sent of which file."""

    url: str
    log: Path

    def bytes_of(self, name: str) -> int:
        """Body bytes sent of all files whose path ends with `name`."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return sum(int(sent) for path, _, sent in lines if path.endswith(name))

    def requests(self) -> int:
        return len(self.log.read_text().splitlines())


@contextmanager
def nginx(root: Path, work: Path) -> Iterator[Served]:
    """nginx serving `root`; its configuration, log and temporary files are in `work`."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not program:
        pytest.skip("nginx is not installed (Debian: apt install nginx-light)")
    port = free_port()
    temporary = "\n".join(
        f"{kind}_temp_path {work}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = work / "nginx.conf"
    config.write_text(f"""
        daemon off; worker_processes 2; pid {work}/nginx.pid; error_log {work}/error.log;
        {"user root;" if os.geteuid() == 0 else ""}
        events {{ worker_connections 256; }}
        http {{
            {temporary}
            log_format sent '$uri $status $body_bytes_sent';
            access_log {work}/access.log sent;
            server {{ listen 127.0.0.1:{port}; location / {{ root {root}; }} }}
        }}
    """)
    process = subprocess.Popen([program, "-p", work, "-c", config, "-e", work / "error.log"])
    try:
        _wait_for(port, process)
        yield Served(f"http://127.0.0.1:{port}", work / "access.log")
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def s3_endpoint(root: Path, bucket: str) -> Iterator[str]:
    """URL of an S3 endpoint (moto) in a process of its own, with the files below `root` in `bucket`."""
    pytest.importorskip("moto", reason="moto is not installed (pip install 'moto[s3]' flask flask-cors)")
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("s3fs", reason="s3fs is not installed (pip install s3fs)")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, process)
        url = f"http://127.0.0.1:{port}"
        client = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        )
        client.create_bucket(Bucket=bucket)
        for file in (path for path in root.rglob("*") if path.is_file()):
            client.upload_file(str(file), bucket, file.relative_to(root).as_posix())
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int, process: subprocess.Popen) -> None:
    for _ in range(300):
        assert process.poll() is None, f"the server ended with {process.returncode}"
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"no server at port {port} after 30 s")


@dataclass
class Fault:
    """What goes wrong with the next `times` requests for a file whose path ends with `name`."""

    name: str
    times: int = 1
    status: int = 0
    """Answered instead of the file."""
    cut_after: int | None = None
    """Body bytes after which the connection is closed."""
    flip_byte: int | None = None
    """Byte of the response that arrives changed."""
    wait_s: float = 0.0
    """Before the body is sent."""


@dataclass
class FaultyServer:
    """Serves a folder over HTTP/1.1, with the faults in `faults`; counts what it sends."""

    root: Path
    honours_ranges: bool = True
    bytes_per_s: float = float("inf")
    faults: list[Fault] = field(default_factory=list)
    sent: list[tuple[str, int, int]] = field(default_factory=list)
    """(path, status, body bytes) of each answered request."""
    url: str = ""

    @contextmanager
    def running(self) -> Iterator["FaultyServer"]:
        handler = type("Handler", (_Handler,), {"served": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def bytes_of(self, name: str) -> int:
        return sum(count for path, _, count in self.sent if path.endswith(name))

    def requests_of(self, name: str) -> int:
        return sum(path.endswith(name) for path, _, _ in self.sent)

    def take_fault(self, path: str) -> Fault:
        for fault in self.faults:
            if path.endswith(fault.name) and fault.times > 0:
                fault.times -= 1
                return fault
        return Fault(name="")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: FaultyServer

    def do_GET(self) -> None:
        fault = self.served.take_fault(self.path)
        file = self.served.root / self.path.lstrip("/")
        if fault.status or not file.is_file():
            self._answer(fault.status or 404, b"")
            return
        content = file.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        status = 200
        if asked and self.served.honours_ranges:
            status, content = 206, content[int(asked[1]) : int(asked[2]) + 1]
        if fault.flip_byte is not None:
            content = (
                content[: fault.flip_byte] + bytes([content[fault.flip_byte] ^ 1]) + content[fault.flip_byte + 1 :]
            )
        time.sleep(fault.wait_s)
        self._answer(status, content, fault.cut_after)

    def _answer(self, status: int, body: bytes, cut_after: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        count = 0
        try:
            for start in range(0, len(body[:cut_after]), 1024):
                piece = body[:cut_after][start : start + 1024]
                self.wfile.write(piece)
                count += len(piece)
                time.sleep(len(piece) / self.served.bytes_per_s)
        except OSError:  # the client has gone
            self.close_connection = True
        if cut_after is not None:
            self.close_connection = True
        self.served.sent.append((self.path, status, count))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""
