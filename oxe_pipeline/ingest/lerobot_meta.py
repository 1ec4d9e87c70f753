"""What a LeRobot folder says about itself (v2.0, v2.1 and v3.0): features, rate, and where each episode's rows, tasks
and videos lie. Nothing is assumed about file names: the folder's own path templates are followed, and whatever they or
the tables say, no path leaves the folder.

Layouts: huggingface/lerobot, lerobot/datasets/utils.py of the releases 0.3 (v2.1) and 0.4 (v3.0).
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.lerobot_table import read_table
from oxe_pipeline.ingest.raw_folder import inside

INFO = "meta/info.json"
MAX_META_BYTES = 256 << 20
"""Of one JSON file in meta/: some million episodes."""
MAX_NUMBER = 2**31
"""Of an episode, a row or a file."""

_FIELD = re.compile(r"\{(\w+)(?::0?(\d{1,2})d)?\}")
_OLD_CHUNK_SIZE = 1000
_VIDEO_PLACE = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """One declared column; `dtype` "video" has no column in the tables, "image" holds encoded images."""

    dtype: str
    is_depth: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderInfo:
    """meta/info.json, checked."""

    version: str
    """"2.0", "2.1": a file an episode; "3.0": many episodes a file."""
    robot_type: str
    fps: float
    features: dict[str, Feature]
    data_path: str
    video_path: str
    chunk_size: int
    splits: tuple[tuple[str, int, int], ...]
    """(name, first episode, end) for the folder's own splits; () when there is only "train"."""

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    def videos(self) -> list[str]:
        """Names of the colour video features, in order."""
        return [name for name, feature in self.features.items() if feature.dtype == "video" and not feature.is_depth]

    def split_of(self, episode: int) -> str:
        """The folder's own split, "" where it has none."""
        return next((name for name, first, end in self.splits if first <= episode < end), "")


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoPart:
    """Where the images of one camera of one episode lie."""

    file: str
    from_s: float | None = None
    """None: frame i of the file is row i. Else row i is shown at from_s + its timestamp, before to_s."""
    to_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DeclaredEpisode:
    """One line of the folder's table of episodes."""

    index: int
    length: int
    tasks: tuple[str, ...]
    data_file: str
    shares_file: bool
    """Whether `data_file` holds other episodes too (v3)."""
    videos: Mapping[str, VideoPart] = field(default_factory=dict)


def read_info(root: Path) -> FolderInfo:
    """Raises DataError naming the entry that is absent or not as LeRobot writes it, or a version that is not read."""
    content = _json_object(root, INFO)
    version = str(content.get("codebase_version", "?")).removeprefix("v")
    if version.split(".")[0] not in ("2", "3"):
        raise _fault(
            f"codebase_version {version!r} is not read, 2.x and 3.x are; LeRobot's own scripts convert version 1"
        )
    try:
        return FolderInfo(
            version=version,
            robot_type=str(content.get("robot_type") or ""),
            fps=_positive(content["fps"]),
            features={str(name): _feature(entry) for name, entry in content["features"].items()},
            data_path=str(content["data_path"]),
            video_path=str(content.get("video_path") or ""),
            chunk_size=int(content.get("chunks_size") or _OLD_CHUNK_SIZE),
            splits=_splits(content.get("splits") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _fault(f"not as LeRobot writes it: {type(error).__name__}: {error}") from None


def declared_episodes(root: Path, info: FolderInfo, cameras: Collection[str]) -> Iterator[DeclaredEpisode]:
    """All episodes in order of the folder's table, with the videos of `cameras` (those that are video features).

    Raises DataError for a table that is absent or damaged, names an episode twice, or a path out of the folder.
    """
    videos = [name for name in info.videos if name in cameras]
    checked: set[str] = set()
    listed: set[int] = set()
    for episode in _v2_rows(root, info, videos) if info.major == 2 else _v3_rows(root, info, videos):
        for file in {episode.data_file, *(part.file for part in episode.videos.values())} - checked:
            if PurePosixPath(file).is_absolute():
                raise _fault(f"{file} is an absolute path; paths must lie in the folder")
            inside(root, root / file, INFO)
            checked.add(file)
        if episode.index in listed:
            raise _fault(
                f"episode_index {episode.index} is listed twice; a copy or a merge went wrong", "meta/episodes"
            )
        listed.add(episode.index)
        yield episode


def task_names(root: Path, info: FolderInfo) -> dict[int, str]:
    """task_index to the sentence. Raises DataError when the table is absent or damaged."""
    if info.major == 2:
        return {_whole(line, "task_index"): str(line.get("task", "")) for line in _json_lines(root, "meta/tasks.jsonl")}
    rows = read_table(root, "meta/tasks.parquet", None)
    texts = next((rows[name] for name in ("task", "__index_level_0__") if name in rows), None)
    if texts is None or "task_index" not in rows:
        raise _fault("needs the columns task and task_index", "meta/tasks.parquet")
    try:
        return {int(index): str(text) for index, text in zip(rows["task_index"], texts, strict=True)}
    except (TypeError, ValueError, OverflowError):
        raise _fault("task_index must hold whole numbers", "meta/tasks.parquet") from None


def fill_template(template: str, values: Mapping[str, int | str]) -> str:
    """A path template with its fields, "{name}" or "{name:03d}", filled in. Python's own formatting, which a template
    of a stranger could ask for attributes or gigabytes of padding, is not used. DataError for any other field."""

    def filled(match: re.Match) -> str:
        name, width = match[1], match[2]
        if name not in values:
            raise _fault(f"path template {template!r} has an unknown field {name!r}")
        value = values[name]
        return str(value).zfill(int(width)) if width and isinstance(value, int) else str(value)

    path = _FIELD.sub(filled, template)
    if not path or "{" in _FIELD.sub("", template):
        raise _fault(f"path template {template!r} is not as LeRobot writes it")
    return path


def _v2_rows(root: Path, info: FolderInfo, videos: list[str]) -> Iterator[DeclaredEpisode]:
    for line in _json_lines(root, "meta/episodes.jsonl"):
        index = _whole(line, "episode_index")
        values: dict[str, int | str] = {"episode_index": index, "episode_chunk": index // info.chunk_size}
        yield DeclaredEpisode(
            index=index,
            length=_whole(line, "length"),
            tasks=_sentences(line.get("tasks")),
            data_file=fill_template(info.data_path, values),
            shares_file=False,
            videos={
                name: VideoPart(file=fill_template(info.video_path, {**values, "video_key": name})) for name in videos
            },
        )


def _v3_rows(root: Path, info: FolderInfo, videos: list[str]) -> Iterator[DeclaredEpisode]:
    files = sorted((root / "meta" / "episodes").rglob("*.parquet"))
    if not files:
        raise _fault("no such table; copy the folder's meta/ whole", "meta/episodes")
    wanted = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
    wanted += [f"videos/{name}/{place}" for name in videos for place in _VIDEO_PLACE]
    for file in files:
        name = file.relative_to(root).as_posix()
        rows = read_table(root, name, wanted)
        lacking = [key for key in wanted[:5] if key not in rows]
        if lacking:
            raise _fault(f"has no column {', '.join(lacking)}", name)
        for number in range(len(rows["episode_index"])):
            yield _v3_row({key: column[number] for key, column in rows.items()}, info, videos, name)


def _v3_row(row: dict, info: FolderInfo, videos: list[str], table: str) -> DeclaredEpisode:
    """A camera whose place is not stated is one that the episode has not."""
    try:
        place = {"chunk_index": int(row["data/chunk_index"]), "file_index": int(row["data/file_index"])}
        parts = {}
        for name in videos:
            chunk, file, begin, end = (row.get(f"videos/{name}/{place}") for place in _VIDEO_PLACE)
            if chunk is None or file is None or begin is None:
                continue
            values: dict[str, int | str] = {"chunk_index": int(chunk), "file_index": int(file), "video_key": name}
            parts[name] = VideoPart(
                file=fill_template(info.video_path, values),
                from_s=float(begin),
                to_s=float("inf") if end is None else float(end),
            )
        return DeclaredEpisode(
            index=int(row["episode_index"]),
            length=int(row["length"]),
            tasks=_sentences(row["tasks"]),
            data_file=fill_template(info.data_path, place),
            shares_file=True,
            videos=parts,
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise _fault(f"episode {row.get('episode_index')}: {error}", table) from None


def _sentences(stated: object) -> tuple[str, ...]:
    """What the entry `tasks` says: a list of sentences, or one that some converters write bare."""
    listed = stated if isinstance(stated, list) else [stated]
    return tuple(str(sentence) for sentence in listed if sentence is not None)


def _feature(entry: dict) -> Feature:
    """Also v2.0 and v3.0 spellings of the depth flag."""
    info = entry.get("info") or entry.get("video_info") or {}
    depth = bool(info.get("video.is_depth_map") or info.get("is_depth_map"))
    return Feature(dtype=str(entry["dtype"]), is_depth=depth)


def _splits(stated: dict[str, str]) -> tuple[tuple[str, int, int], ...]:
    """{"train": "0:80", "val": "80:100"}. With nothing but train there is nothing held out, so nothing is decided."""
    if set(stated) <= {"train"}:
        return ()
    ranges = []
    for name, text in stated.items():
        first, _, end = str(text).partition(":")
        ranges.append((str(name), int(first or 0), int(end)))
    return tuple(ranges)


def _json_object(root: Path, name: str) -> dict:
    content = _parsed(_read_text(root, name))
    if not isinstance(content, dict):
        raise _fault("is not a JSON object; copy it again", name)
    return content


def _json_lines(root: Path, name: str) -> Iterator[dict]:
    # Not splitlines(): sentences may hold other breaks of a line, which JSON writers leave as they are.
    for number, text in enumerate(_read_text(root, name).split("\n"), 1):
        if text.strip():
            line = _parsed(text)
            if not isinstance(line, dict):
                raise _fault(f"line {number} is not a JSON object; copy it again", name)
            yield line


def _read_text(root: Path, name: str) -> str:
    path = inside(root, root / name, name)
    try:
        if path.stat().st_size > MAX_META_BYTES:
            raise _fault(f"larger than {MAX_META_BYTES >> 20} MB", name)
        return path.read_text(encoding="utf-8")
    except OSError:
        raise _fault("cannot be read; give the folder that holds meta/, data/ and videos/", name) from None
    except UnicodeDecodeError:
        raise _fault("is not text; copy it again", name) from None


def _parsed(text: str) -> object:
    """None for what is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _whole(line: dict, key: str) -> int:
    value = line.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MAX_NUMBER:
        raise _fault(f"{key} is {value!r:.50}; must be a whole number", "meta")
    return value


def _positive(value: object) -> float:
    number = float(value)  # type: ignore[arg-type]
    if not 0 < number < 1e6:
        raise ValueError(f"fps is {value!r}")
    return number


def _fault(reason: str, file: str = INFO) -> DataError:
    return DataError(reason, episode=file, field="meta")
