"""apply_spec: a lab's episode, in the lab's own conventions, becomes a unified Episode as the data set's spec says.

The one place where a spec meets data. Everything that does not fit (a missing key, a wrong width, a NaN, a truncated
image) is a DataError that names data set, episode and field, so that a builder can set the episode aside and go on.
"""

import re
from typing import Literal

import numpy as np
import xxhash

from oxe_pipeline.episode import DataError, Episode, Frames, SourceEpisode
from oxe_pipeline.ingest.episode_operations import apply_episode_operation
from oxe_pipeline.ingest.images import encoded_frames, is_black
from oxe_pipeline.ingest.operations import apply_column
from oxe_pipeline.language.clean import clean_labels
from oxe_pipeline.language.rules import comparable
from oxe_pipeline.quality.checks import check_episode, check_source
from oxe_pipeline.quality.step_flags import misplaced
from schemas.dataset_spec import DatasetSpec
from schemas.operations import Plus
from schemas.slots import ACTION_WIDTH, RAW_WIDTH, STATE_WIDTH
from schemas.spec_parts import Channel, nearest, parse_source, slot_indices

METADATA_PREFIX = "episode_metadata/"


def apply_spec(source: SourceEpisode, spec: DatasetSpec) -> Episode:
    """The unified episode: slots, masks, cameras, cleaned label, success, split and id, checked.

    Deterministic. The order is: check the source, fill slots, encode cameras, then `episode_ops` as listed, then check
    the result. Raises DataError for anything the spec does not fit. A camera marked `missing: black` whose first and
    last images are black, or `missing: absent` whose key the source lacks, is left out of `images`.
    """
    check_source(source, spec.name)
    action, action_mask = _fill(source, spec, "action")
    state, state_mask = _fill(source, spec, "state")
    labels = clean_labels(_raw_labels(source, spec), spec.language)
    identity = episode_id(source, spec)
    episode = Episode(
        dataset=spec.name,
        episode_id=identity,
        split=choose_split(source, spec, identity),
        action=action,
        action_mask=action_mask,
        state=state,
        state_mask=state_mask,
        action_raw=_raw_vector(source, spec, "action_raw"),
        state_raw=_raw_vector(source, spec, "state_raw"),
        images=_images(source, spec),
        instruction=labels.instruction,
        alternatives=tuple(labels.alternatives),
        label_raw=labels.raw,
        label_flags=(*labels.flags, *_differing_labels(source, spec, labels.instruction)),
        quality_flags=(*source.quality_flags, *misplaced(source.steps)),
        success=_success(source, spec),
        control_hz=spec.control_hz,
        lab=spec.lab,
        robot=spec.robot,
        source_path=source.source_path,
        reward=_optional_scalar(source, spec, "reward"),
        discount=_optional_scalar(source, spec, "discount"),
        is_terminal=_ends_in_terminal(source, spec),
    )
    kinds = spec.action_kinds()
    for op in spec.episode_ops:
        episode = _named_fault(source, spec, op.op, apply_episode_operation, episode, op, kinds)
    check_episode(episode)
    return episode


def episode_id(source: SourceEpisode, spec: DatasetSpec) -> str:
    """16 hexadecimal digits of xxh64 over the source columns that make the actions, states and images, in the order of
    their names: the same recording has the same id wherever its files lie and however it is labelled."""
    sources = [channel.source for channel in (*spec.action, *spec.state)]
    sources += [*spec.action_raw, *spec.state_raw]
    sources += [c.source for c in spec.cameras.values() if c.missing != "absent" or c.source in source.steps]
    digest = xxhash.xxh64()
    for key in sorted({parse_source(text)[0] for text in sources}):
        digest.update(f"{key}\0".encode())
        column = _column(source, spec, key)
        if isinstance(column, Frames):
            digest.update(column.identity())
        elif isinstance(column, np.ndarray) and column.dtype != object:
            digest.update(f"{column.dtype.str}{column.shape}".encode())
            digest.update(np.ascontiguousarray(column).tobytes())
        else:
            for value in column:
                data = value if isinstance(value, bytes) else np.ascontiguousarray(value).tobytes()
                digest.update(len(data).to_bytes(8, "little"))
                digest.update(data)
    return digest.hexdigest()


def choose_split(source: SourceEpisode, spec: DatasetSpec, identity: str) -> str:
    """The source's own split under our name; without one, "val" for a `val_share` of episodes, chosen by a hash of the
    episode id (of the `group_by` metadata, so that a scene stays on one side), else "train". Appending data moves
    none."""
    if source.split:
        if source.split not in spec.split.names:
            reason = (
                f"the source's split {source.split!r} is not in split.names{nearest(source.split, spec.split.names)}"
            )
            raise DataError(reason, dataset=spec.name, episode=source.key, field="split")
        return spec.split.names[source.split]
    unit = _text(_metadata(source, spec, spec.split.group_by)) if spec.split.group_by else identity
    return "val" if xxhash.xxh64_intdigest(f"split\0{unit}".encode()) < spec.split.val_share * 2**64 else "train"


def _fill(source: SourceEpisode, spec: DatasetSpec, what: Literal["action", "state"]) -> tuple[np.ndarray, np.ndarray]:
    """float32 [T, width] with every channel in its slots, and the mask of filled slots."""
    channels, width = (spec.action, ACTION_WIDTH) if what == "action" else (spec.state, STATE_WIDTH)
    length = len(next(iter(source.steps.values())))
    vector, mask = np.zeros((length, width), np.float32), np.zeros(width, bool)
    for channel in channels:
        indices = slot_indices(channel.slots, what)
        values = _named_fault(source, spec, channel.source, _channel_values, source, spec, channel)
        if values.shape != (length, len(indices)):
            reason = (
                f"gives {list(values.shape)} for {what} slots {channel.slots}, which take [{length}, {len(indices)}]"
            )
            raise DataError(reason, dataset=spec.name, episode=source.key, field=channel.source)
        vector[:, indices], mask[indices] = values, True
    return vector, mask


def _channel_values(source: SourceEpisode, spec: DatasetSpec, channel: Channel) -> np.ndarray:
    values = _numbers(source, spec, channel.source)
    for op in channel.ops:
        values = values + _numbers(source, spec, op.source) if isinstance(op, Plus) else apply_column(op, values)
    return values


def _numbers(source: SourceEpisode, spec: DatasetSpec, text: str) -> np.ndarray:
    """The numeric column "key[a:b]" as float64 [T, k]; a scalar a step is one wide, inner dimensions are flattened."""
    key, part = parse_source(text)
    column = _column(source, spec, key)
    try:
        values = np.asarray(column, np.float64)
    except (TypeError, ValueError):
        raise DataError("is not numeric", dataset=spec.name, episode=source.key, field=key) from None
    values = values.reshape(len(values), -1)
    if part is None:
        return values
    start, stop = part.start or 0, part.stop or 0
    if values.shape[1] < max(start + 1, -start, abs(stop)):
        reason = f"{text} reaches beyond its {values.shape[1]} value(s) a step"
        raise DataError(reason, dataset=spec.name, episode=source.key, field=key)
    return values[:, part]


def _column(source: SourceEpisode, spec: DatasetSpec, key: str) -> np.ndarray | list | Frames:
    if key not in source.steps:
        reason = f"no such key in the source{nearest(key, source.steps)}"
        raise DataError(reason, dataset=spec.name, episode=source.key, field=key)
    return source.steps[key]


def _metadata(source: SourceEpisode, spec: DatasetSpec, key: str) -> object:
    """Episode metadata by its flat key; the prefix "episode_metadata/" may stand or be left out on either side."""
    for candidate in (key, key.removeprefix(METADATA_PREFIX), METADATA_PREFIX + key):
        if candidate in source.metadata:
            return source.metadata[candidate]
    reason = f"no such key in the source's metadata{nearest(key, source.metadata)}"
    raise DataError(reason, dataset=spec.name, episode=source.key, field=key)


def _raw_vector(source: SourceEpisode, spec: DatasetSpec, field: Literal["action_raw", "state_raw"]) -> np.ndarray:
    """float32 [T, A]: the source's own columns side by side; [T, 0] where the spec names none."""
    columns = [_numbers(source, spec, text) for text in getattr(spec, field)]
    length = len(next(iter(source.steps.values())))
    vector = np.concatenate(columns, axis=1) if columns else np.zeros((length, 0))
    if vector.shape[1] > RAW_WIDTH:
        reason = f"{vector.shape[1]} numbers a step; at most {RAW_WIDTH} fit, name fewer keys in the spec"
        raise DataError(reason, dataset=spec.name, episode=source.key, field=field)
    return vector.astype(np.float32)


def _images(source: SourceEpisode, spec: DatasetSpec) -> dict[str, list[bytes]]:
    images = {}
    for name, camera in spec.cameras.items():
        if camera.missing == "absent" and camera.source not in source.steps:
            continue
        column = _column(source, spec, camera.source)
        frames = _named_fault(source, spec, camera.source, encoded_frames, column, camera)
        if camera.missing == "black" and _named_fault(source, spec, camera.source, is_black, frames):
            continue
        images[name] = frames
    return images


def _raw_labels(source: SourceEpisode, spec: DatasetSpec) -> list[object]:
    """Labels as stored, main one first: a step key at the first step, a metadata key as it is, lists laid flat."""
    labels: list[object] = []
    for key in spec.language.sources:
        value = _said(source, spec, key, step=0)
        labels.extend(value if isinstance(value, list | tuple) else [value])
    return labels


def _differing_labels(source: SourceEpisode, spec: DatasetSpec, instruction: str) -> list[str]:
    """A flag for each label in `language.compared` that, cleaned, is another sentence than the instruction."""
    flags = []
    for key in spec.language.compared:
        said = clean_labels([source.metadata[key]], spec.language).instruction if key in source.metadata else ""
        if said and comparable(said) != comparable(instruction):
            flags.append(f"differs_from:{key}")
    return flags


def _said(source: SourceEpisode, spec: DatasetSpec, key: str, *, step: int) -> object:
    """A step key at one step, or a metadata key."""
    column = source.steps.get(key)
    if isinstance(column, Frames):
        raise DataError("holds images, no text or outcome", dataset=spec.name, episode=source.key, field=key)
    return _metadata(source, spec, key) if column is None else column[step]


def _success(source: SourceEpisode, spec: DatasetSpec) -> int:
    """1, 0 or -1 for unknown; a step key is read at the last step."""
    if spec.success is None:
        return -1
    if spec.success.valid_if and not _outcome(source, spec, spec.success.valid_if):
        return -1
    value = _outcome(source, spec, spec.success.source)
    if spec.success.pattern:
        return int(re.search(spec.success.pattern, _text(value)) is not None)
    return int(bool(value))


def _outcome(source: SourceEpisode, spec: DatasetSpec, key: str) -> object:
    value = _said(source, spec, key, step=-1)
    if not isinstance(value, np.ndarray | np.generic):
        return value
    if value.size != 1:
        reason = f"{value.size} values where one outcome is expected"
        raise DataError(reason, dataset=spec.name, episode=source.key, field=key)
    return value.item()


def _text(value: object) -> str:
    """Also of half surrogate pairs, which no file can hold."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value).encode(errors="replace").decode()


def _optional_scalar(source: SourceEpisode, spec: DatasetSpec, key: str) -> np.ndarray | None:
    """float32 [T] of a column that RLDS calls by this very name, or None where the source has none."""
    if key not in source.steps:
        return None
    values = _numbers(source, spec, key)
    if values.shape[1] != 1:
        raise DataError(f"{values.shape[1]} values a step, must be 1", dataset=spec.name, episode=source.key, field=key)
    return values[:, 0].astype(np.float32)


def _ends_in_terminal(source: SourceEpisode, spec: DatasetSpec) -> bool:
    """RLDS: the last step's is_terminal; a source that does not say is taken to end its task."""
    if "is_terminal" not in source.steps:
        return True
    return bool(_numbers(source, spec, "is_terminal")[-1].all())


def _named_fault(source: SourceEpisode, spec: DatasetSpec, field: str, function, *arguments):
    """function(*arguments), with a ValueError about the data turned into a DataError that names episode and field."""
    try:
        return function(*arguments)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(str(error), dataset=spec.name, episode=source.key, field=field) from None
