"""Bytes of a stream that lies behind a URL (http, https, s3, gs, anything fsspec opens): ranges, time-outs, retries.

One request per range through `cat_file`, the only ranged read that every fsspec file system has. It costs a round trip
per range, which several downloads at once hide, and makes every range its own unit of time-out, retry and resume.
Addresses of endpoints and credentials come from where each file system finds them (AWS_* variables, fsspec's
configuration), so that neither mixture files nor pickles ever hold a secret.
"""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from oxe_pipeline.stream.format import MANIFEST, Manifest, StreamError, parse_manifest

_MOST_BACKOFF_S = 30.0
_INSTALL = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}
_WORTH_REPEATING = (408, 425, 429)
"""Statuses below 500 that ask the client to come again: time-out, too early, too many requests."""

Result = TypeVar("Result")


def is_url(path: str | Path) -> bool:
    """Whether a stream's path is a URL and not a folder of this machine; `file://` is a folder."""
    return isinstance(path, str) and "://" in path and not path.startswith("file://")


class RemoteFolder:
    """The folder of a stream behind a URL. Holds no connection until it is read, and none that a fork could inherit."""

    def __init__(self, url: str, *, attempts: int, backoff_s: float, timeout_s: float):
        self.url = url.rstrip("/")
        self._attempts, self._backoff_s, self._timeout_s = attempts, backoff_s, timeout_s
        self._opened: tuple[int, Any, str] | None = None

    def __str__(self) -> str:
        return self.url

    def read(self, name: str) -> bytes:
        """A whole small file. FileNotFoundError when there is none, StreamError for any other fault that lasts."""
        return self._repeated(name, lambda: self._request(name, None, None))

    def read_from(self, name: str, start: int, stop: int, size: int) -> bytes:
        """Bytes start .. stop-1 of a file of `size` bytes, or all from `start` on where the server knows no ranges.

        A server that ignores the range sends the whole file, which is told apart by its length. FileNotFoundError when
        there is no such file, StreamError for any other fault that lasts.
        """

        def request() -> bytes:
            content = self._request(name, start, stop)
            if len(content) == stop - start:
                return content
            if len(content) == size:
                return content[start:]
            raise ConnectionError(f"{len(content)} bytes came for the {stop - start} from {start} on")

        return self._repeated(name, request)

    def pause(self, attempt: int) -> None:
        """Sleeps before a repetition: twice as long each time, with jitter, so that ranks do not come back together."""
        # Not the counter RNG: nothing that is delivered depends on it.
        time.sleep(min(_MOST_BACKOFF_S, self._backoff_s * 2**attempt) * random.uniform(0.5, 1.5))

    def _repeated(self, name: str, request: Callable[[], Result]) -> Result:
        for attempt in range(self._attempts):
            try:
                return request()
            except (FileNotFoundError, StreamError):
                raise
            except Exception as error:  # file systems raise what their client libraries raise
                if _is_final(error):
                    raise StreamError(f"{self.url}/{name}: {_reason(error)}; check the address and access") from error
                fault = error
            if attempt + 1 < self._attempts:
                self.pause(attempt)
        raise StreamError(
            f"{self.url}/{name}: failed {self._attempts} times, last: {_reason(fault)}; check the server and the "
            "network, or raise attempts or timeout_s of CacheOptions"
        ) from fault

    def _request(self, name: str, start: int | None, stop: int | None) -> bytes:
        filesystem, root = self._filesystem()
        path = f"{root}/{name}"
        if not filesystem.async_impl:
            return filesystem.cat_file(path, start=start, end=stop)
        from fsspec.asyn import sync

        return sync(filesystem.loop, filesystem._cat_file, path, start=start, end=stop, timeout=self._timeout_s)

    def _filesystem(self) -> tuple[Any, str]:
        """fsspec's object and the path in it: of this process, since event loops and connections do not survive a
        fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            import fsspec

            protocol = self.url.partition("://")[0]
            try:
                filesystem, root = fsspec.core.url_to_fs(self.url)
            except (ImportError, ValueError) as error:
                package = _INSTALL.get(protocol)
                remedy = f"pip install {package}" if package else "install the fsspec package for it"
                raise StreamError(f"{self.url}: {error}; {remedy}") from None
            self._opened = os.getpid(), filesystem, root.rstrip("/")
        return self._opened[1:]


def read_remote_manifest(folder: RemoteFolder) -> Manifest:
    """The manifest of a stream behind a URL; StreamError when there is none, it is damaged, or of a newer format."""
    try:
        return parse_manifest(folder.read(MANIFEST), f"{folder}/{MANIFEST}")
    except FileNotFoundError:
        raise StreamError(
            f"{folder}: no stream: {MANIFEST} is missing; check the address, or make one with `python -m jobs.shard`, "
            "which writes the manifest last"
        ) from None


def holds_stream(url: str) -> bool:
    """Whether there is a finished stream at a URL; StreamError when the server does not say."""
    try:
        RemoteFolder(url, attempts=5, backoff_s=0.5, timeout_s=60).read(MANIFEST)
        return True
    except FileNotFoundError:
        return False


def _is_final(error: Exception) -> bool:
    """Whether asking again cannot help: refused, not there, wrongly asked, or no credentials."""
    status = getattr(error, "status", None) or getattr(error, "code", None)
    if isinstance(status, int) and 400 <= status < 500:
        return status not in _WORTH_REPEATING
    # botocore's and google-auth's errors, whose packages need not be installed.
    without_credentials = type(error).__name__.endswith("CredentialsError")
    return without_credentials or isinstance(error, PermissionError | ValueError | TypeError | ImportError)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
