"""Episodes of a published RLDS directory as work for the pool: records are read here in file order, parsed in workers.

Only bytes travel to a worker, so the main process does no more than disk reading, and memory is a few records.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from oxe_pipeline.episode import DataError, SourceEpisode
from oxe_pipeline.ingest.rlds import RldsDirectory


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One serialised episode and where it stands."""

    folder: str
    key: str
    """Shard file and number in it, e.g. "droid-train.tfrecord-00000-of-02048#12"."""
    split: str
    """The source's split, or "" where the pipeline decides."""
    record: bytes | DataError
    """The fault where the file no longer holds the episode."""

    def __str__(self) -> str:
        return self.key


class Records:
    """The episodes of some of a directory's splits, in order; len() is what dataset_info.json declares for the files
    that are present."""

    def __init__(self, directory: RldsDirectory, splits: list[str], *, keep_split: bool):
        self._directory, self._splits, self._keep_split = directory, splits, keep_split

    def __len__(self) -> int:
        return sum(self._directory.splits[split].num_examples for split in self._splits)

    def __iter__(self) -> Iterator[Record]:
        """A file that is cut short gives its whole records, then a fault for each one lost, and the next file goes
        on."""
        folder = str(self._directory.path)
        for split in self._splits:
            files = self._directory.splits[split]
            for file in files.files:
                for key, record in self._directory.declared_records(file, files.lengths[file.name]):
                    yield Record(folder=folder, key=key, split=split if self._keep_split else "", record=record)


def read_record(record: Record) -> SourceEpisode:
    """The source episode of one record. Raises DataError where the record or its file is damaged."""
    if isinstance(record.record, DataError):
        raise record.record
    return _directory(record.folder).source_episode(record.record, record.key, record.split)


@cache
def _directory(folder: str) -> RldsDirectory:
    return RldsDirectory(folder)
