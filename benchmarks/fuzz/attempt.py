"""One input, from the number that names it to what came of it. This is what a worker process does."""

import random
import re
import resource
import shutil
import sys
import traceback
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import xxhash

from benchmarks.fuzz.damage import damage_folder
from benchmarks.fuzz.formats import Format
from benchmarks.fuzz.watched_folder import WatchedFolder
from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.features_json import RldsError
from schemas.spec import DatasetSpec, load_spec

OUTSIDE = "outside"
MAX_GROWTH_BYTES = 1536 << 20
"""Resident memory that one small input may take at its peak; the readers' own limits are up to 1 GiB a column."""
FORBIDDEN_EVENTS = frozenset({"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect"})

STARVED = "asked for too much memory"

OUTCOMES = ("same", "accepted", "quarantined", "refused", "fault", "hang", "crash")
"""same: all episodes as before. accepted: other values or fewer episodes. quarantined: a DataError for an episode.
refused: a DataError or RldsError for the folder, or no episode found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    format: str
    number: int
    damage: str
    outcome: str
    reason: str = ""
    trace: str = ""


@dataclass(kw_only=True)
class Bench:
    """Where the inputs of one format are tried: `folder`/original is the sample, `folder`/outside a copy of it."""

    folder: Path
    name: str
    format: Format
    seed: int
    forbidden: list[str] = field(default_factory=list)
    """What was done that no reader may do; filled by whoever watches (`watch`)."""

    def __post_init__(self) -> None:
        self._outside = WatchedFolder(self.folder / OUTSIDE)
        self._spec = load_spec(self.format.spec) if self.format.spec else None
        root = self._copied("whole")
        self._expected = self._episodes(root)
        if not self._expected or any(isinstance(found, DataError) for found in self._expected):
            raise RuntimeError(f"{self.name}: the sample itself does not read: {self._expected}")

    def attempt(self, number: int) -> Attempt:
        """What comes of input `number`; a hang or a crash is the parent's to see."""
        rng = random.Random(f"{self.name}/{self.seed}/{number}")
        root = self._copied(str(number))
        try:
            damage = damage_folder(root, self.folder / OUTSIDE, rng)
            (self.folder / f"damage_{number}").write_text(damage, errors="backslashreplace")
            self._outside.opened()
            self.forbidden.clear()
            before = _reset_peak()
            outcome, reason, trace = self._outcome(root)
            growth = _peak_bytes() - before
        finally:
            shutil.rmtree(root, ignore_errors=True)
        if opened := self._outside.opened():
            outcome, reason = "fault", f"opened a file outside the folder: {sorted(opened)[0]}"
        elif self.forbidden:
            outcome, reason = "fault", f"did what no reader may: {self.forbidden[0]}"
        elif growth > MAX_GROWTH_BYTES:
            outcome, reason = "fault", f"took {growth >> 20} MB of memory ({outcome}: {reason})"
        return Attempt(format=self.name, number=number, damage=damage, outcome=outcome, reason=reason, trace=trace)

    def _outcome(self, root: Path) -> tuple[str, str, str]:
        try:
            found = self._episodes(root)
        except (DataError, RldsError) as error:
            if _starved(error):
                return "fault", STARVED, _trace(error)
            return "refused", _kind(error), ""
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return "fault", f"{type(error).__name__}: {str(error)[:200]}", _trace(error)
        faults = [episode for episode in found if isinstance(episode, DataError)]
        if starved := [fault for fault in faults if _starved(fault)]:
            return "fault", STARVED, _trace(starved[0])
        if faults:
            return "quarantined", _kind(faults[0]), ""
        if not found:
            return "refused", "no episode found", ""
        return ("same" if found == self._expected else "accepted"), "", ""

    def _episodes(self, root: Path) -> list[str | DataError]:
        """A hash of each episode, or why there is none."""
        found: list[str | DataError] = []
        keys, read = self.format.open(root, self._spec)  # type: ignore[arg-type]
        for key in keys:
            try:
                found.append(_digest(_converted(read(key), self._spec)))
            except DataError as error:
                found.append(error)
        return found

    def _copied(self, name: str) -> Path:
        root = self.folder / f"raw_{name}"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.folder / "original", root)
        return root


def watch(forbidden: list[str]) -> None:
    """From now on this process notes each FORBIDDEN_EVENTS there; Python cannot take that back."""
    sys.addaudithook(lambda event, _: forbidden.append(event) if event in FORBIDDEN_EVENTS else None)


def limit_memory(extra_bytes: int) -> None:
    """No allocation beyond what this process has now and `extra_bytes`: MemoryError then."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + extra_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def counted(attempts: list[Attempt]) -> dict[str, int]:
    """Outcome to number of inputs, in the order of OUTCOMES."""
    counts = Counter(attempt.outcome for attempt in attempts)
    return {outcome: counts[outcome] for outcome in OUTCOMES}


def _converted(source, spec: DatasetSpec | None):
    return source if spec is None else apply_spec(source, spec)


def _digest(value: object) -> str:
    digest = xxhash.xxh64()
    if hasattr(value, "__dataclass_fields__"):
        for item in fields(value):  # type: ignore[arg-type]
            digest.update(f"{item.name}={_digest(getattr(value, item.name))}".encode())
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        digest.update(f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, dict):
        digest.update(repr({repr(key): _digest(item) for key, item in value.items()}).encode())
    elif isinstance(value, list) and all(isinstance(item, bytes) for item in value):
        for item in value:
            digest.update(item)
    else:
        digest.update(_shallow(value).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def _shallow(value: object) -> str:
    """repr() without going into what a pickle may hold: a list that holds itself, or 2^40 items."""
    return (
        f"{type(value).__name__} of {len(value)}"
        if isinstance(value, list | tuple | set) and not isinstance(value, str)
        else repr(value)
    )


def _starved(error: BaseException | None) -> bool:
    """Whether Python ran out of memory on the way to this error. FFmpeg's error of that name, a subclass, mostly means
    that FFmpeg refused a size before it asked for it."""
    while error is not None:
        if type(error) is MemoryError:
            return True
        error = error.__cause__ or error.__context__
    return False


def _kind(error: Exception) -> str:
    """The reason without what differs from file to file."""
    reason = getattr(error, "reason", str(error))
    return re.sub(r"\d+", "N", re.sub(r"/\S+", "PATH", reason))[:120]


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-6000:]


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _peak_bytes()


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10
