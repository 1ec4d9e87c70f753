"""The topics of one bag as columns: when each message came and what it says, without its image.

A bag is read once, whatever it holds. Whose clock counts is decided per column: the sender's stamps where all are
there, never go backwards and lie before the receipt, by MAX_DELAY_S at most, else the time of receipt.
"""

import functools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xxhash

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.align_columns import NS
from oxe_pipeline.ingest.bag_files import Bag, opened_bag
from oxe_pipeline.ingest.bag_messages import image_data, numbers_in, stamp_ns, text_in, value_at
from schemas.bag import BagColumn, BagLayout
from schemas.spec import nearest

MAX_DELAY_S = 1.0
"""From stamp to receipt. A sender's clock that is slow by less than this is taken for a slow network."""
MAX_AHEAD_S = 0.05
"""By which a stamp may lie after its receipt; more is a clock of another machine, not a measurement from the future."""
MAX_MESSAGES = 1 << 23
"""Of all wanted topics of one bag: a day at 97 Hz."""
RECORDING = "recording"
"""Name of the column that says when an episode is recorded."""


@dataclass(kw_only=True, slots=True)
class Column:
    """All messages of one column: when received, when stamped, and numbers [k], text, or the hash of an image."""

    topic: str
    said: BagColumn
    received_ns: list[int] = field(default_factory=list)
    stamped_ns: list[int | None] = field(default_factory=list)
    values: list = field(default_factory=list)

    def times(self) -> tuple[np.ndarray, str]:
        """int64 [N], not decreasing, and whose clock they are of: "stamp" or "receipt"."""
        received = np.asarray(self.received_ns, np.int64)
        if self.stamped_ns and None not in self.stamped_ns:
            stamped = np.asarray(self.stamped_ns, np.int64)
            delays = received - stamped
            one_clock = ((delays >= -MAX_AHEAD_S * NS) & (delays <= MAX_DELAY_S * NS)).all()
            if one_clock and (np.diff(stamped) >= 0).all():
                return stamped, "stamp"
        return received, "receipt"


def read_columns(root: Path, path: str, layout: BagLayout) -> dict[str, Column]:
    """All columns of one bag by their names, those of the spec and RECORDING; an optional one that the bag lacks is no
    key.

    The last bag is kept in memory, because where it holds several episodes they are read one after another. Raises
    DataError naming bag and topic: damaged, a topic missing, fields missing, no message at all.
    """
    changed_ns = (root / path).stat().st_mtime_ns if (root / path).exists() else 0
    return _read(root, path, layout.model_dump_json(), changed_ns)


@functools.lru_cache(maxsize=1)
def _read(root: Path, path: str, layout_json: str, changed_ns: int) -> dict[str, Column]:
    layout = BagLayout.model_validate_json(layout_json)
    wanted = dict(layout.columns) | ({RECORDING: layout.recording} if layout.recording else {})
    with opened_bag(root, path) as bag:
        columns = {name: column for name, said in wanted.items() if (column := _column(bag, said, name, path))}
        of_topic: dict[str, list[Column]] = {}
        for column in columns.values():
            of_topic.setdefault(column.topic, []).append(column)
        for count, (topic, received_ns, message) in enumerate(bag.messages(of_topic)):
            if count >= MAX_MESSAGES:
                raise DataError(f"more than {MAX_MESSAGES} messages in one bag", episode=path, field="bag")
            for column in of_topic[topic]:
                _take(column, received_ns, message, path)
    for name, column in columns.items():
        if not column.values and column.said.kind != "text" and not column.said.optional:
            raise DataError(f"no message of it fits column {name}", episode=path, field=column.topic)
    return {name: column for name, column in columns.items() if column.values or column.said.kind == "text"}


def _column(bag: Bag, said: BagColumn, name: str, path: str) -> Column | None:
    """The column with the first of its topics that the bag has; None for an optional one that it lacks."""
    for topic in said.topics:
        if topic in bag.topics:
            return Column(topic=topic, said=said)
    if said.optional:
        return None
    reason = f"column {name} needs the topic {' or '.join(said.topics)}{nearest(said.topics[0], bag.topics)}"
    raise DataError(reason, episode=path, field="topics")


def _take(column: Column, received_ns: int, message: object, path: str) -> None:
    """Adds what the column wants of one message."""
    said = column.said
    try:
        value: object
        if said.kind == "image":
            shape = [value_at(message, name) for name in ("height", "width", "encoding") if hasattr(message, name)]
            value = xxhash.xxh64(repr(shape).encode() + image_data(message)).digest()
        elif said.kind == "text":
            value = text_in(message, said.fields[0])
        else:
            value = numbers_in(message, said.fields, said.names)
            if value is not None and column.values and len(value) != len(column.values[0]):
                raise ValueError(f"{len(value)} values, in the first message {len(column.values[0])}")
    except ValueError as error:
        where = f"message {len(column.values)}: "
        raise DataError(where + str(error), episode=path, field=column.topic) from None
    if value is not None:
        column.received_ns.append(received_ns)
        column.stamped_ns.append(stamp_ns(message))
        column.values.append(value)
