"""Mixture: several open streams and the order in which their samples are drawn. All state of a run is one number, g.

Any sample number can be asked for at any time and costs the same, so "which steps were in batch 41,233" is a call, and
a run goes on exactly where it stopped, on any number of ranks and workers.
"""

import copy
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from oxe_pipeline.mixture.config import MixtureConfig, MixtureConfigError, read_config
from oxe_pipeline.mixture.data_identity import DataIdentity, StateError
from oxe_pipeline.mixture.eligible import drawn_ranges, open_overlays, pools_of, train_steps, windows_per_epoch
from oxe_pipeline.mixture.order import Order
from oxe_pipeline.mixture.schedule import Schedule
from oxe_pipeline.mixture.shares import WeightError
from oxe_pipeline.mixture.weights import effective_weights
from oxe_pipeline.mixture.windows import WindowIndex
from oxe_pipeline.overlays.overlay import Overlay
from oxe_pipeline.stream.cache import CacheOptions
from oxe_pipeline.stream.reader import Stream, open_stream

_OPENED_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One sample number and the step it stands for."""

    g: int
    dataset: str
    episode_id: str
    step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureDataset:
    """One data set of a mixture. `name` is the mixture's name for it, `stream.name` the stream's own."""

    name: str
    stream: Stream
    num_episodes: int
    """Episodes of the mixture's split that are drawn from."""
    num_steps: int
    """Windows of one epoch: the steps that can be drawn, each as often as an overlay repeats it, else once."""
    split_episodes: int
    """Episodes of the mixture's split, drawn from or not."""
    split_steps: int
    """Steps of the mixture's split, drawn or not."""
    overlay: str
    """Name of the overlay that says what is drawn; "" for none: every step once per epoch."""


class Mixture:
    """Open streams, weights over sample numbers, and a seed. Immutable; may be pickled to workers.

    `datasets` (tuple of MixtureDataset, sorted by name), `schedule`, `split`, `seed`, `name`; `identity` is 32
    hexadecimal digits over the content of the streams, their names, their overlays and the split, but neither weights
    nor seed.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        schedule: Schedule,
        *,
        seed: int = 0,
        split: str = "train",
        name: str = "",
        overlays: Mapping[str, Overlay] | None = None,
        pool_shards: int | None = None,
    ):
        """`overlays` are those of the data sets that have one, each read for its own stream (see `open_overlays`).
        `pool_shards`: shuffle within this many shards of each data set at a time (see `locality`), None: uniformly."""
        overlays = overlays or {}
        self.name, self.split, self.pool_shards = name, split, pool_shards
        self._streams = dict(sorted(streams.items()))
        self._data = DataIdentity(
            split=split,
            pool_shards=pool_shards,
            datasets={
                name: stream.identity + (f"+{overlays[name].header.identity}" if name in overlays else "")
                for name, stream in self._streams.items()
            },
        )
        self.identity = self._data.digest
        ranges = {name: drawn_ranges(stream, split, overlays.get(name)) for name, stream in self._streams.items()}
        self._windows = WindowIndex(list(ranges.values()))
        self._pools = pools_of(self._streams, ranges, pool_shards) if pool_shards is not None else None
        self.datasets = tuple(
            MixtureDataset(
                name=name,
                stream=stream,
                num_episodes=int(self._windows.episodes_per_dataset[number]),
                num_steps=int(self._windows.windows_per_dataset[number]),
                split_episodes=stream.manifest.counts.split_episodes.get(split, 0),
                split_steps=stream.manifest.counts.split_steps.get(split, 0),
                overlay=overlays[name].header.name if name in overlays else "",
            )
            for number, (name, stream) in enumerate(self._streams.items())
        )
        self._set_order(schedule, seed)

    def _set_order(self, schedule: Schedule, seed: int) -> None:
        self.schedule = schedule
        steps = {dataset.name: dataset.num_steps for dataset in self.datasets}
        self._order = Order(schedule, steps, seed, self._pools)
        number_of = {name: number for number, name in enumerate(self._streams)}
        self._dataset_of_schedule = np.array([number_of[name] for name in schedule.names], np.int64)

    @property
    def seed(self) -> int:
        return self._order.seed

    def locate(self, g: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(data set, episode, step), int64 [N] each, of sample numbers `g` int [N] >= 0.

        `data set` indexes `datasets`, `episode` is the row in that data set's own episode index.
        """
        draw = self._order.locate(g)
        dataset = self._dataset_of_schedule[draw.dataset]
        episode, step = self._windows.locate(dataset, draw.window)
        return dataset, episode, step

    def epochs(self, g: ArrayLike) -> np.ndarray:
        """int64 [N]: how often each sample's data set had been seen whole before it."""
        return self._order.locate(g).epoch

    def samples_per_epoch(self) -> int:
        """Samples from 0 on after which every data set was seen whole at least once; for a single one: its windows.

        WeightError when a data set loses its weight in the schedule before that.
        """
        return self._order.samples_per_epoch()

    def windows_per_episode(self) -> tuple[np.ndarray, np.ndarray]:
        """(data set, windows per epoch) int64 [E] each, of every episode that is drawn from; see `locate`."""
        return self._windows.windows_per_episode()

    def samples(self, g0: int, g1: int) -> list[Sample]:
        """The samples g0 .. g1-1, with the ids that lead back to the source episode."""
        numbers = range(g0, g1)
        located = zip(numbers, *(array.tolist() for array in self.locate(np.array(numbers, np.int64))), strict=True)
        return [
            Sample(
                g=g,
                dataset=self.datasets[dataset].name,
                episode_id=self.datasets[dataset].stream.episodes.episode_id(episode),
                step=step,
            )
            for g, dataset, episode, step in located
        ]

    def with_seed(self, seed: int) -> "Mixture":
        """The same data and weights in another order."""
        return self._with(self.schedule, seed)

    def reweighted(self, g: int, weights: Mapping[str, float]) -> "Mixture":
        """The same samples up to `g` (rounded up to a block), other weights from there; see Schedule.reweighted."""
        return self._with(self.schedule.reweighted(g, weights), self.seed)

    def state_dict(self, g: int) -> dict:
        """Everything that says which sample comes next, as JSON: `g`, seed, schedule, and what identifies the data."""
        return {
            "g": int(g),
            "seed": self.seed,
            "schedule": self.schedule.state(),
            **self._data.state(),
        }

    def check_state(self, state: Mapping) -> None:
        """StateError unless this mixture goes on from `state` with the very samples it would have had without a stop.

        The data, the split, the seed, and all weights before the state's `g` must be the same; later weights may
        differ.
        """
        self._data.check(state)
        if state["seed"] != self.seed:
            raise StateError(
                f"the state was saved with seed {state['seed']}, this mixture has seed {self.seed}; use the same"
            )
        if not self.schedule.agrees_before(Schedule.from_state(state["schedule"]), state["g"]):
            raise StateError(
                f"weights before sample {state['g']} differ from the saved ones {state['schedule']}; "
                "use Mixture.continued(state), which keeps those and applies new ones from there on"
            )

    def continued(self, state: Mapping) -> "Mixture":
        """The mixture that goes on from `state`: its seed and its weights up to its `g`; from there this one's weights.

        Nothing already drawn changes. StateError when the data or the split differ.
        """
        self._data.check(state)
        saved, g = Schedule.from_state(state["schedule"]), int(state["g"])
        if self.schedule.agrees_before(saved, g):
            return self._with(self.schedule, state["seed"])
        changes = self.schedule.weights_from(g)
        if changes != saved.weights_from(g):
            for start, weights in changes.items():
                saved = saved.reweighted(start, weights)
        return self._with(saved, state["seed"])

    def _with(self, schedule: Schedule, seed: int) -> "Mixture":
        changed = copy.copy(self)
        changed._set_order(schedule, seed)
        return changed


def load_mixture(
    source: str | Path | MixtureConfig, split: str | None = None, *, cache: CacheOptions | None = None
) -> Mixture:
    """Opens the streams of a mixture file (mix.yaml) or config and returns their Mixture.

    `split` other than the config's own draws from that split instead; data sets with nothing to draw in it then
    have weight 0. Weights by size always count train steps. `cache` says where streams behind URLs are kept. Raises
    MixtureConfigError, WeightError or StreamError, each naming file or data set, the value and the remedy.
    """
    config = source if isinstance(source, MixtureConfig) else read_config(source)
    return build_mixture(config, open_streams(config, cache=cache), split)


def open_streams(config: MixtureConfig, *, cache: CacheOptions | None = None) -> dict[str, Stream]:
    """Data set to its open stream; see open_stream. StreamError for one that is missing or unfinished."""
    for entry in config.datasets:
        if not entry.path:
            raise MixtureConfigError(f"data set {entry.name} has no path; say where its stream lies, or give --root")
    names, paths = zip(*((entry.name, entry.path) for entry in config.datasets), strict=True)
    # Opening a stream is mostly waiting: for the server of a URL, for a disk on the network; reading releases the GIL.
    with ThreadPoolExecutor(_OPENED_AT_ONCE) as threads:
        return dict(zip(names, threads.map(partial(open_stream, cache=cache), paths), strict=True))


def build_mixture(
    config: MixtureConfig,
    streams: Mapping[str, Stream],
    split: str | None = None,
    overlays: Mapping[str, Overlay] | None = None,
) -> Mixture:
    """The Mixture of a config over streams, and overlays (default: those of the config), that are open; see
    load_mixture."""
    overlays = open_overlays(config, streams) if overlays is None else overlays
    weights_from = effective_weights(config, train_steps(streams, overlays))
    split = split or config.split
    empty = {name for name, windows in windows_per_epoch(streams, overlays, split).items() if not windows}
    if len(empty) == len(streams):
        raise WeightError(f"no data set of the mixture has an episode in split {split!r}")
    if split != config.split:
        weights_from = {start: {n: w for n, w in ws.items() if n not in empty} for start, ws in weights_from.items()}
    for name in empty & set(overlays):
        if any(weights.get(name) for weights in weights_from.values()):
            raise WeightError(
                f"data set {name} has a weight, but overlay {overlays[name].header.name} leaves nothing of its split "
                f"{split!r}; loosen the overlay's rules, or set the weight to 0"
            )
    schedule = Schedule.from_mapping(weights_from)
    return Mixture(
        streams,
        schedule,
        seed=config.seed,
        split=split,
        name=config.name,
        overlays=overlays,
        pool_shards=config.pool_shards,
    )
