"""Episodes as an RLDS data set on disk, written through TFDS as `tfds build` would, with the statistics beside it.

Octo's and OpenVLA's loaders take the statistics from a file that their first run over the data left; here it is there
from the start.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.peers.episodes import CAMERAS, Episode

NAME, VERSION = "moving_scenes", "1.0.0"
_STATISTICS = "statistics.json"


def write(episodes: Iterable[Episode], folder: Path) -> None:
    """An RLDS data set as `tfds build` makes it (TFRecord, images as the bytes given), and its statistics."""
    import tensorflow_datasets as tfds

    kept = list(episodes)
    image, text, tensor = tfds.features.Image, tfds.features.Text, tfds.features.Tensor
    observation = {
        **{f"image_{camera}": image(shape=(None, None, 3), encoding_format="jpeg") for camera in CAMERAS},
        "state": tensor(shape=(10,), dtype=np.float32),
    }
    step = {
        "observation": tfds.features.FeaturesDict(observation),
        "action": tensor(shape=(7,), dtype=np.float32),
        "reward": np.float32,
        "discount": np.float32,
        **dict.fromkeys(("is_first", "is_last", "is_terminal"), np.bool_),
        "language_instruction": text(),
    }

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        VERSION = tfds.core.Version(VERSION)
        name = NAME

        def _info(self):
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict({"steps": tfds.features.Dataset(step)})
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for number, episode in enumerate(kept):
                yield number, {"steps": [_step(episode, t) for t in range(len(episode))]}

    Builder(data_dir=folder).download_and_prepare()
    (folder / _STATISTICS).write_text(json.dumps(_statistics(kept)))


def _step(episode: Episode, t: int) -> dict:
    last = t == len(episode) - 1
    return {
        "observation": {
            **{f"image_{camera}": episode.images[camera][t] for camera in CAMERAS},
            "state": episode.state[t],
        },
        "action": episode.action[t],
        "reward": float(last),
        "discount": 1.0,
        "is_first": t == 0,
        "is_last": last,
        "is_terminal": last,
        "language_instruction": episode.instruction,
    }


def _statistics(episodes: list[Episode]) -> dict:
    found: dict = {"num_steps": sum(map(len, episodes))}
    for name in ("action", "state"):
        values = np.concatenate([getattr(episode, name) for episode in episodes])
        found[name] = {
            "mean": values.mean(0).tolist(),
            "std": values.std(0).tolist(),
            "q01": np.quantile(values, 0.01, 0).tolist(),
            "q99": np.quantile(values, 0.99, 0).tolist(),
        }
    return found


def read_statistics(folder: Path) -> dict:
    return json.loads((folder / _STATISTICS).read_text())
