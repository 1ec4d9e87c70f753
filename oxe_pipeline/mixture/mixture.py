"""Mixture: several open streams and the order in which their samples are drawn. All state of a run is one number, g.

Any sample number can be asked for at any time and costs the same, so "which steps were in batch 41,233" is a call, and
a run goes on exactly where it stopped, on any number of ranks and workers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import ArrayLike

from oxe_pipeline.mixture.chairman import WeightError
from oxe_pipeline.mixture.config import MixtureConfig, MixtureConfigError, read_config
from oxe_pipeline.mixture.order import ORDER_VERSION, Order
from oxe_pipeline.mixture.schedule import Schedule
from oxe_pipeline.mixture.weights import effective_weights
from oxe_pipeline.mixture.windows import WindowIndex
from oxe_pipeline.stream.format import canonical_json
from oxe_pipeline.stream.reader import Stream, open_stream


class StateError(ValueError):
    """A saved state that does not belong to this mixture: what differs, both values, and the remedy, in one line."""


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
    """Episodes of the mixture's split."""
    num_steps: int
    """Steps of the mixture's split: windows that can be drawn."""


class Mixture:
    """Open streams, weights over sample numbers, and a seed. Immutable; may be pickled to workers.

    `datasets` (tuple of MixtureDataset, sorted by name), `schedule`, `split`, `seed`, `name`; `identity` is 32
    hexadecimal digits over the content of the streams, their names and the split, but neither weights nor seed.
    """

    def __init__(
        self, streams: Mapping[str, Stream], schedule: Schedule, *, seed: int = 0, split: str = "train", name: str = ""
    ):
        self.name, self.split, self.schedule = name, split, schedule
        self._streams = dict(sorted(streams.items()))
        episodes = [stream.episodes for stream in self._streams.values()]
        self._windows = WindowIndex([index.length for index in episodes], [index.split_is(split) for index in episodes])
        self.datasets = tuple(
            MixtureDataset(name=name, stream=stream, num_episodes=int(num_episodes), num_steps=int(num_steps))
            for (name, stream), num_episodes, num_steps in zip(
                self._streams.items(),
                self._windows.episodes_per_dataset,
                self._windows.windows_per_dataset,
                strict=True,
            )
        )
        steps = {dataset.name: dataset.num_steps for dataset in self.datasets}
        self._order = Order(schedule, steps, seed)
        names = list(self._streams)
        self._dataset_of_schedule = np.array([names.index(name) for name in schedule.names], np.int64)
        self.identity = xxhash.xxh3_128_hexdigest(canonical_json([split, self._identities()]).encode())

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
            "order_version": ORDER_VERSION,
            "split": self.split,
            "identity": self.identity,
            "datasets": self._identities(),
        }

    def check_state(self, state: Mapping) -> None:
        """StateError unless this mixture goes on from `state` with the very samples it would have had without a stop.

        The data, the split, the seed, and all weights before the state's `g` must be the same; later weights may
        differ.
        """
        self._check_data(state)
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
        self._check_data(state)
        saved, g = Schedule.from_state(state["schedule"]), int(state["g"])
        if self.schedule.agrees_before(saved, g):
            return self._with(self.schedule, state["seed"])
        changes = self.schedule.weights_from(g)
        if changes != saved.weights_from(g):
            for start, weights in changes.items():
                saved = saved.reweighted(start, weights)
        return self._with(saved, state["seed"])

    def _check_data(self, state: Mapping) -> None:
        missing = {"g", "seed", "schedule", "order_version", "split", "identity", "datasets"} - set(state)
        if missing:
            raise StateError(f"this is no state of a mixture: {', '.join(sorted(missing))} missing")
        if state["order_version"] != ORDER_VERSION:
            raise StateError(
                f"the state has order version {state['order_version']}, this package draws in version {ORDER_VERSION}; "
                "use the version of the package that saved it"
            )
        if state["split"] != self.split:
            raise StateError(f"the state was saved on split {state['split']!r}, this mixture draws from {self.split!r}")
        own = self._identities()
        for name, identity in state["datasets"].items():
            if own.get(name) != identity:
                raise StateError(
                    f"data set {name} differs: the state was saved on stream {identity}, this mixture holds "
                    f"{own.get(name, 'none of that name')} (mixtures {state['identity']} and {self.identity}); "
                    "open the same streams"
                )

    def _identities(self) -> dict[str, str]:
        return {name: stream.identity for name, stream in self._streams.items()}

    def _with(self, schedule: Schedule, seed: int) -> "Mixture":
        return Mixture(self._streams, schedule, seed=seed, split=self.split, name=self.name)


def load_mixture(source: str | Path | MixtureConfig, split: str | None = None) -> Mixture:
    """Opens the streams of a mixture file (mix.yaml) or config and returns their Mixture.

    `split` other than the config's own draws from that split instead; data sets without an episode in it then have
    weight 0. Weights by size always count train steps. Raises MixtureConfigError, WeightError or StreamError, each
    naming file or data set, the value and the remedy.
    """
    config = source if isinstance(source, MixtureConfig) else read_config(source)
    return build_mixture(config, open_streams(config), split)


def open_streams(config: MixtureConfig) -> dict[str, Stream]:
    """Data set to its open stream. StreamError for one that is missing or unfinished."""
    for entry in config.datasets:
        if not entry.path:
            raise MixtureConfigError(f"data set {entry.name} has no path; say where its stream lies, or give --root")
    return {entry.name: open_stream(entry.path) for entry in config.datasets}


def train_steps(streams: Mapping[str, Stream]) -> dict[str, int]:
    """Data set to the steps of its train split, as its manifest counts them."""
    return {name: stream.manifest.counts.split_steps.get("train", 0) for name, stream in streams.items()}


def build_mixture(config: MixtureConfig, streams: Mapping[str, Stream], split: str | None = None) -> Mixture:
    """The Mixture of a config over streams that are open; see load_mixture."""
    weights_from = effective_weights(config, train_steps(streams))
    split = split or config.split
    if split != config.split:
        empty = {name for name, stream in streams.items() if not stream.episodes.split_is(split).any()}
        if len(empty) == len(streams):
            raise WeightError(f"no data set of the mixture has an episode in split {split!r}")
        weights_from = {start: {n: w for n, w in ws.items() if n not in empty} for start, ws in weights_from.items()}
    return Mixture(streams, Schedule.from_mapping(weights_from), seed=config.seed, split=split, name=config.name)
