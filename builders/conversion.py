"""What runs in a builder's worker processes: read one episode, apply the spec. Imports neither TensorFlow nor TFDS, so
a worker starts in a second and stays small."""

from collections.abc import Callable
from typing import Any

from oxe_pipeline.episode import DataError, Episode, SourceEpisode
from oxe_pipeline.ingest.apply_spec import apply_spec
from schemas.spec import DatasetSpec


def read_and_convert(
    read_episode: Callable[[Any], SourceEpisode], spec: DatasetSpec, key: Any
) -> tuple[str, Episode | DataError]:
    """str(key) and the episode. A data fault is a result, to be counted; any other exception is a bug and is raised."""
    name = str(key).encode("utf-8", "backslashreplace").decode()
    if name != str(key):
        reason = "its path is not UTF-8, which no RLDS file can hold; rename it"
        return name, DataError(reason, dataset=spec.name, episode=name, field="path")
    try:
        return name, apply_spec(read_episode(key), spec)
    except DataError as error:
        return name, DataError(error.reason, dataset=spec.name, episode=error.episode, field=error.field)
