"""UnifiedBuilder: the TFDS builder that every lab's builder is made of. A lab says which episodes there are and how one
is read; this base applies the spec on all cores, writes unified RLDS, and sets bad episodes aside, counted.

Plain generator mode of TFDS: one process writes, a bounded ordered pool reads and converts, so memory stays flat on
data larger than RAM and the result does not depend on the number of processes. The price: it cannot use several
machines.
"""

import abc
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from tqdm import tqdm

from builders.conversion import read_and_convert
from builders.examples import episode_to_example
from builders.ordered_pool import WorkerDied, ordered_map
from oxe_pipeline.episode import DataError, SourceEpisode
from oxe_pipeline.provenance import code_version
from schemas.rlds import unified_features
from schemas.spec import DatasetSpec, SpecError, load_spec, load_spec_file, nearest_spec

MAX_BAD_SHARE = 0.05
"""A build stops when more than this share of a split's episodes is bad; a single bad one never stops it."""


class BuildStopped(SystemExit):
    """A build that cannot go on. `tfds build`, whose command line is not ours, exits with status 2 after this one line
    instead of a traceback; TFDS removes what was written."""

    def __init__(self, message: str):
        super().__init__(message)
        self.code = 2
        # An interpreter that exits with a number prints nothing, and nobody above catches this to print it. Through
        # tqdm, because TFDS's progress bars, when they close, wipe the line where they stood.
        tqdm.write(message, file=sys.stderr)


@dataclasses.dataclass
class UnifiedConfig(tfds.core.BuilderConfig):
    """One data set of a builder. `name` is also the name of its spec unless `spec` gives one."""

    spec: DatasetSpec | None = dataclasses.field(default=None, repr=False)
    processes: int = 0
    """Processes that read and convert; 0 means one per core, 1 means none beside this one."""


class UnifiedBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of the builders. A subclass defines BUILDER_CONFIGS (UnifiedConfig), MANUAL_DOWNLOAD_INSTRUCTIONS and the
    two methods `list_episodes` and `read_episode`.

    TFDS must name its splits before an episode is read, so its splits are those of the source ("train" for all where
    the source has none); the split by hash stands in episode_metadata/split, which is what the shard job goes by.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First unified layout: 32 action slots, 40 state slots, four cameras."}

    def __init__(self, *, config: UnifiedConfig | str | None = None, **kwargs: Any):
        """`config`: a name out of BUILDER_CONFIGS, a config, or the path of a spec file of your own ("mylab.yaml"), so
        that `tfds build --config mylab.yaml` builds a data set that this package does not know."""
        known = [shipped.name for shipped in self.BUILDER_CONFIGS]
        if isinstance(config, str) and config.endswith((".yaml", ".yml")):
            config = _config_of_file(config, known)
        if isinstance(config, str) and known and config not in known:
            reason = f"error: {self.name}: no config {config!r}{nearest_spec(config, known)}"
            raise BuildStopped(f"{reason}; a spec of your own is given by its path, --config mylab.yaml")
        super().__init__(config=config, **kwargs)

    @abc.abstractmethod
    def list_episodes(self, manual_dir: str) -> Mapping[str, Iterable[Any]]:
        """Split name (train, val, test) to the keys of its episodes, in a fixed order, without reading them.

        A key must pickle, be small, and have a str() that is unique in the split and stable from run to run; it may
        come from a generator. Raises BuildStopped or DataError when the folder holds nothing to build.
        """

    @abc.abstractmethod
    def read_episode(self) -> Callable[[Any], SourceEpisode]:
        """The function that reads the episode of one key. It must pickle, and its module must be importable without the
        builder's, and import no TFDS: worker processes load it."""

    @property
    def spec(self) -> DatasetSpec:
        """The spec of the data set being built."""
        return self.builder_config.spec or load_spec(self.builder_config.name)

    def note(self, **facts: Any) -> None:
        """Adds facts (JSON values) to the metadata.json of the built directory."""
        self.info.metadata.update(facts)

    def _info(self) -> tfds.core.DatasetInfo:
        spec = self.spec
        return self.dataset_info_from_configs(
            features=unified_features(),
            homepage=spec.homepage or None,
            license=spec.licence,
            metadata=tfds.core.MetadataDict(),
        )

    def download_and_prepare(self, *, download_config=None, **kwargs) -> None:
        self._refuse_other_build(download_config)
        super().download_and_prepare(download_config=download_config, **kwargs)

    def _refuse_other_build(self, download_config) -> None:
        """TFDS takes whatever lies under the final name for what was asked; here it must be of this spec, and whole."""
        if not self.data_path.exists() or (download_config and download_config.download_mode.overwrite_dataset):
            return
        built, asked = self.info.metadata or {}, download_config.max_examples_per_split if download_config else None
        limit = built.get("max_examples_per_split")
        if built.get("spec_hash") != self.spec.content_hash():
            raise BuildStopped(f"error: {self.data_path}: was built by another spec; give --overwrite to build it anew")
        if limit is not None and (asked is None or asked > limit):
            raise BuildStopped(
                f"error: {self.data_path}: was built with --max_examples_per_split {limit}; give --overwrite for more"
            )

    def _download_and_prepare(self, dl_manager, download_config) -> None:
        # The only place where TFDS shows its limit before the generators run; without it they would read ahead of it.
        self._max_examples = download_config.max_examples_per_split
        super()._download_and_prepare(dl_manager, download_config)

    def _split_generators(self, dl_manager):
        try:
            manual_dir = os.fspath(dl_manager.manual_dir)
        except AssertionError:
            remedy = " ".join(self.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
            raise BuildStopped(
                f"error: {self.name}: --manual_dir is missing, empty or not a folder. {remedy}"
            ) from None
        try:
            listing = self.list_episodes(manual_dir)
        except DataError as error:
            named = DataError(error.reason, dataset=self.spec.name, episode=error.episode, field=error.field)
            raise BuildStopped(f"error: {named}") from None
        except ImportError as error:
            raise BuildStopped(f"error: {error}") from None
        spec = self.spec
        self.note(
            dataset=spec.name,
            spec=spec.model_dump(mode="json", exclude_defaults=True, by_alias=True),
            spec_hash=spec.content_hash(),
            code_version=code_version(),
            max_examples_per_split=self._max_examples,
            episodes_in=0,
            episodes_out=0,
            quarantined=[],
        )
        return {split: self._generate_examples(split, keys) for split, keys in listing.items()}

    def _generate_examples(self, split: str, keys: Iterable[Any]) -> Iterator[tuple[str, dict]]:
        out, bad = 0, 0
        limit = sys.maxsize if self._max_examples is None else self._max_examples
        total = min(len(keys), limit) if isinstance(keys, Sized) else None
        convert = functools.partial(read_and_convert, self.read_episode(), self.spec)
        results = ordered_map(
            convert, keys, processes=self.builder_config.processes or os.cpu_count() or 1, wanted=lambda: limit - out
        )
        metadata = self.info.metadata
        for key, result in self._or_stopped(results):
            metadata["episodes_in"] += 1
            if isinstance(result, DataError):
                bad += 1
                metadata["quarantined"].append(quarantine_record(result, split))
                self._stop_if_too_many_bad(split, bad, total)
                continue
            out += 1
            metadata["episodes_out"] += 1
            yield key, episode_to_example(result)
        self._stop_if_too_many_bad(split, bad, out + bad)
        if out == 0:
            self._stop(f"split {split!r}: no episode to write ({bad} set aside)")

    def _or_stopped(self, results: Iterator) -> Iterator:
        """`results`; a reader whose package is absent, or a dead process, stops the build in one line."""
        try:
            yield from results
        except ImportError as error:
            raise BuildStopped(f"error: {error}") from None
        except WorkerDied as error:
            remedy = "out of memory, or a damaged file crashed a library: move it away and build again"
            raise BuildStopped(f"error: {self.spec.name}: {error} ({remedy})") from None

    def _stop_if_too_many_bad(self, split: str, bad: int, total: int | None) -> None:
        """Stops the build when more than one and more than MAX_BAD_SHARE of `total` episodes are bad."""
        if total is not None and bad > 1 and bad > MAX_BAD_SHARE * total:
            self._stop(f"split {split!r}: {bad} of {total} episodes are bad, more than {MAX_BAD_SHARE:.0%}")

    def _stop(self, summary: str) -> None:
        faults = self.info.metadata["quarantined"]
        first = (
            f"; first: episode {faults[0]['episode']}: {faults[0]['field']}: {faults[0]['reason']}" if faults else ""
        )
        raise BuildStopped(f"error: {self.spec.name}: {summary}{first}")


def _config_of_file(path: str, shipped: list[str]) -> UnifiedConfig | str:
    """The config of a spec file; for a file that says what a shipped spec says, the name of that one."""
    try:
        spec = load_spec_file(path)
        if spec.name in shipped:
            if spec == load_spec(spec.name):
                return spec.name
            raise SpecError(f"{path}: {spec.name!r} is the name of a shipped data set; give yours another `name`")
    except SpecError as error:
        raise BuildStopped(f"error: {error}") from None
    return UnifiedConfig(name=spec.name, description=spec.title, spec=spec)


def quarantine_record(error: DataError, split: str) -> dict[str, str]:
    """What is kept of an episode that was set aside."""
    return {
        "dataset": error.dataset,
        "split": split,
        "episode": error.episode,
        "field": error.field,
        "reason": error.reason,
    }
