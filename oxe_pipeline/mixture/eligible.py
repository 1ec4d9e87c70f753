"""What a mixture draws of each of its streams: every step of a split, or what an overlay leaves of them."""

from collections.abc import Mapping
from pathlib import Path

from oxe_pipeline.mixture.config import DatasetEntry, MixtureConfig, MixtureConfigError
from oxe_pipeline.mixture.locality import PooledWindows, windows_per_run
from oxe_pipeline.overlays.overlay import Overlay, is_path, overlay_path, read_overlay
from oxe_pipeline.overlays.window_ranges import WindowRanges
from oxe_pipeline.stream.reader import Stream
from oxe_pipeline.stream.remote import is_url


def open_overlays(config: MixtureConfig, streams: Mapping[str, Stream]) -> dict[str, Overlay]:
    """Data set to its overlay, for those that the config gives one. OverlayError for one that is missing, damaged, or
    made for another stream."""
    overlays = {}
    for entry in config.datasets:
        if entry.overlay:
            stream = streams[entry.name]
            if is_url(entry.overlay):
                raise MixtureConfigError(
                    f"data set {entry.name}: overlay {entry.overlay} is a URL, and overlays are read from files; copy "
                    "it to this machine and give its path"
                )
            path = entry.overlay if is_path(entry.overlay) else _overlay_beside(stream, entry)
            overlays[entry.name] = read_overlay(path, stream.identity, stream.episodes.length)
    return overlays


def _overlay_beside(stream: Stream, entry: DatasetEntry) -> Path:
    if stream.is_remote:
        raise MixtureConfigError(
            f"data set {entry.name}: {entry.path} is a URL, where overlay {entry.overlay!r} is not looked for; give "
            "the path of an overlay's file (it ends in .arrow)"
        )
    return overlay_path(stream.path, entry.overlay)


def windows_per_epoch(streams: Mapping[str, Stream], overlays: Mapping[str, Overlay], split: str) -> dict[str, int]:
    """Data set to the windows of one epoch of a split: its steps as the manifest counts them, or what its overlay
    leaves of them, as often as it repeats them."""
    return {
        name: drawn_ranges(stream, split, overlays[name]).num_windows
        if name in overlays
        else stream.manifest.counts.split_steps.get(split, 0)
        for name, stream in streams.items()
    }


def train_steps(streams: Mapping[str, Stream], overlays: Mapping[str, Overlay] | None = None) -> dict[str, int]:
    """What weights by size count: windows_per_epoch of the train split."""
    return windows_per_epoch(streams, overlays or {}, "train")


def pools_of(
    streams: Mapping[str, Stream], ranges: Mapping[str, WindowRanges], pool_shards: int
) -> dict[str, PooledWindows]:
    """Data set to its windows in pools of `pool_shards` of its stream's shards; without those that have no window."""
    per_shard = {
        name: windows_per_run(rows.windows_per_range(), streams[name].episodes.shard[rows.episode])
        for name, rows in ranges.items()
    }
    return {name: PooledWindows(windows, pool_shards) for name, windows in per_shard.items() if len(windows)}


def drawn_ranges(stream: Stream, split: str, overlay: Overlay | None = None) -> WindowRanges:
    """The windows of a split that can be drawn: those of the overlay, or every step once."""
    in_split = stream.episodes.split_is(split)
    if overlay:
        return overlay.ranges.within(in_split)
    return WindowRanges.of_episodes(stream.episodes.length, in_split)
