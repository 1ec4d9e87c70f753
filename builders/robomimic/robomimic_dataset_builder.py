"""`tfds build builders/robomimic --config NAME --manual_dir DIR`: robomimic and robosuite HDF5 files as unified RLDS.

The same tree as LIBERO's files and the same reader; other keys, other images, other alignment.
"""

import functools
from typing import ClassVar

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import hdf5_demo
from schemas.spec import load_spec

CONFIGS = ("robomimic", "robomimic_as_tool_hang", "robosuite")


class Builder(UnifiedBuilder):
    """Reads every demo of every .hdf5 file below the raw folder."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download robomimic data sets with images (https://robomimic.github.io/, image.hdf5), or give the folder of your own
    demo.hdf5 files, as --manual_dir.
    """
    BUILDER_CONFIGS: ClassVar = [UnifiedConfig(name=name, description=load_spec(name).title) for name in CONFIGS]

    def list_episodes(self, manual_dir: str) -> dict[str, list[str]]:
        """All demos under "train"; a file's own masks, where it has them, stand in episode_metadata/split."""
        self._raw_folder = manual_dir
        episodes = list(hdf5_demo.find_episodes(manual_dir))
        if not episodes:
            raise BuildStopped(f"error: {manual_dir}: holds no .hdf5 file; give the raw folder as --manual_dir")
        return {"train": episodes}

    def read_episode(self):
        return functools.partial(hdf5_demo.read_episode, root=self._raw_folder)
