"""Bags below a raw folder, opened with care: ROS 1 (.bag), ROS 2 (a folder with metadata.yaml, .db3 files), MCAP.

Messages are decoded one at a time; no ROS is needed. Whole-file or per-message compression of ROS 2 bags is refused,
because it gives no bound on what comes out; chunks inside .bag and .mcap files are decompressed up to a limit. What is
not guarded against: a bag whose own message definitions are made to exhaust the decoder.

Formats: wiki.ros.org/Bags/Format/2.0, ros2/rosbag2, mcap.dev/spec.
"""

import abc
import functools
import re
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import yaml

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.align_columns import FOREVER_NS
from oxe_pipeline.ingest.bounded_decompression import decompress_bz2, decompress_lz4_frame
from oxe_pipeline.ingest.raw_folder import inside, number_order

MAX_CHUNK_BYTES = 1 << 28
MAX_METADATA_BYTES = 1 << 24
SUFFIXES = (".bag", ".db3", ".mcap")

_COMPUTED = re.compile(r"\b(AS|VIRTUAL)\b", re.IGNORECASE)


class Bag(abc.ABC):
    """An opened recording."""

    topics: frozenset[str]

    @abc.abstractmethod
    def messages(
        self, topics: Iterable[str], start_ns: int = 0, stop_ns: int = FOREVER_NS
    ) -> Iterator[tuple[str, int, object]]:
        """(topic, time of receipt in ns, message) of the named topics, each topic's in order of receipt, received at or
        after `start_ns` and before `stop_ns`. Raises DataError where the file is damaged or a message does not
        decode."""


def find_bags(root: str | Path, below: str = "") -> Iterator[str]:
    """Paths of all bags below `root`, in order: folders with metadata.yaml (not descended into), and single files.
    Links to folders are not followed."""
    root = Path(root)
    entries = [entry for entry in (root / below).iterdir() if not entry.is_symlink() or not entry.is_dir()]
    for entry in sorted(entries, key=lambda entry: number_order(entry.name)):
        path = entry.relative_to(root).as_posix()
        if entry.is_dir():
            yield from [path] if (entry / "metadata.yaml").is_file() else find_bags(root, path)
        elif entry.suffix in SUFFIXES and entry.is_file():
            yield path


@contextmanager
def opened_bag(root: str | Path, path: str) -> Iterator[Bag]:
    """The bag at `path` below `root`. Raises DataError when it is damaged, compressed as a whole, of an unknown kind,
    or leads out of `root`; ImportError with the remedy."""
    from oxe_pipeline.ingest.bag_mcap import McapBag

    root = Path(root)
    file = inside(root, root / path, path)
    if file.is_dir():
        information = _information(root, file, path)
        files = [inside(root, file / Path(str(name)).name, path) for name in information["relative_file_paths"]]
        if absent := [each.name for each in files if not each.is_file()]:
            raise DataError(f"metadata.yaml names {absent[0]}, which is not there", episode=path, field="metadata.yaml")
        if information.get("storage_identifier") == "mcap":
            yield McapBag(files, path)
            return
        _refuse_queries(files, path)
    elif file.suffix == ".mcap":
        yield McapBag([file], path)
        return
    elif file.suffix == ".db3":
        _refuse_queries([file], path)
    with _ros_bag(file, path) as bag:
        yield bag


def said_about(root: str | Path, path: str) -> dict[str, object]:
    """What a ROS 2 folder's metadata.yaml says beyond the format: its `task` (OpenTau) and "custom_data/<key>"."""
    root = Path(root)
    folder = inside(root, root / path, path)
    if not folder.is_dir():
        return {}
    information = _information(root, folder, path)
    custom = information.get("custom_data")
    entries = custom.items() if isinstance(custom, dict) else ()
    said: dict[str, object] = {f"custom_data/{key}": value for key, value in entries}
    if isinstance(information.get("task"), str):
        said["task"] = information["task"]
    return said


def _information(root: Path, folder: Path, path: str) -> dict:
    """The mapping in metadata.yaml, checked as far as it is used here."""
    file = inside(root, folder / "metadata.yaml", path)
    try:
        if file.stat().st_size > MAX_METADATA_BYTES:
            raise ValueError(f"is longer than {MAX_METADATA_BYTES} bytes")
        content = _parsed(file.read_text(encoding="utf-8"))
        information = content["rosbag2_bagfile_information"]
        if not isinstance(information["relative_file_paths"], list):
            raise ValueError("relative_file_paths is no list")
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, RecursionError) as error:
        what = " ".join(f"lacks {error}".split() if isinstance(error, KeyError) else str(error).split())
        raise DataError(f"is no description of a bag: {what}", episode=path, field="metadata.yaml") from None
    if str(information.get("compression_mode") or "none").lower() != "none":
        reason = "the bag is compressed as a whole; write it again without, with ros2 bag convert"
        raise DataError(reason, episode=path, field="metadata.yaml")
    if "task" in content and "task" not in information:
        information = {**information, "task": content["task"]}
    return information


@functools.lru_cache(maxsize=1)
def _parsed(text: str) -> dict:
    """The content of a YAML file, kept because a bag is opened once for its numbers and once for each camera."""
    return yaml.safe_load(text)


class _RosBag(Bag):
    """ROS 1 files and ROS 2 databases, through rosbags."""

    def __init__(self, reader, path: str):
        self._reader, self._path = reader, path
        # A damaged metadata.yaml may put a list where the name should be.
        self.topics = frozenset(str(connection.topic) for connection in reader.connections)

    def messages(
        self, topics: Iterable[str], start_ns: int = 0, stop_ns: int = FOREVER_NS
    ) -> Iterator[tuple[str, int, object]]:
        wanted = set(topics)
        connections = [connection for connection in self._reader.connections if str(connection.topic) in wanted]
        if not connections:
            return
        raw = _faults_named(self._reader.messages(connections=connections, start=start_ns, stop=stop_ns), self._path)
        for connection, time_ns, data in raw:
            try:
                message = self._reader.deserialize(data, connection.msgtype)
            except Exception as error:  # a damaged message raises almost anything
                reason = f"a message of type {connection.msgtype} does not decode: {_one_line(error)}"
                raise DataError(reason, episode=self._path, field=str(connection.topic)) from None
            yield str(connection.topic), int(time_ns), message


def _refuse_queries(databases: list[Path], path: str) -> None:
    """DataError where a database holds a view, a trigger or a computed column, any of which may run for ever when it is
    read; a recorder makes none. What is no database is left to the one who opens it."""
    import sqlite3

    for file in databases:
        address = f"file:{quote(str(file))}?immutable=1"
        with suppress(sqlite3.Error), closing(sqlite3.connect(address, uri=True)) as database:
            for kind, name, text in database.execute("SELECT type, name, sql FROM sqlite_master"):
                if kind not in ("table", "index") or _COMPUTED.search(str(text)):
                    reason = f"{file.name}: {str(name)[:60]!r} is computed by a query, must be a plain table"
                    raise DataError(reason, episode=path, field="bag")


@contextmanager
def _ros_bag(file: Path, path: str) -> Iterator[Bag]:
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise ImportError("reading ROS bags needs rosbags: pip install 'oxe-pipeline[raw]'") from error
    try:
        # The types are for databases of old distributions, which do not hold their own.
        reader = AnyReader([file], default_typestore=get_typestore(Stores.ROS2_HUMBLE))
        reader.open()
    except FileNotFoundError:
        raise DataError("no such file", episode=path, field="bag") from None
    except Exception as error:  # rosbags, sqlite3 and the parsers of message definitions share no base
        remedy = "copy it again, or repair it with rosbag reindex, ros2 bag reindex or mcap recover"
        raise DataError(f"does not open: {_one_line(error)}; {remedy}", episode=path, field="bag") from None
    try:
        _bound_chunks(reader)
        yield _RosBag(reader, path)
    finally:
        reader.close()


def _bound_chunks(reader) -> None:
    """Puts bounded decompression in the place of what rosbags would use for the chunks of a ROS 1 file."""
    import bz2

    import lz4.frame

    bounded = {
        bz2.decompress: functools.partial(decompress_bz2, limit=MAX_CHUNK_BYTES),
        lz4.frame.decompress: functools.partial(decompress_lz4_frame, limit=MAX_CHUNK_BYTES),
    }
    for single in reader.readers:
        chunks = getattr(single, "chunks", {})
        for place, chunk in chunks.items():
            chunks[place] = chunk._replace(decompressor=bounded.get(chunk.decompressor, chunk.decompressor))


def _faults_named(messages: Iterator, path: str) -> Iterator:
    try:
        yield from messages
    except Exception as error:  # as above
        raise DataError(f"is damaged: {_one_line(error)}", episode=path, field="bag") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
