"""`tfds build builders/libero --config NAME --manual_dir DIR`: LIBERO or robomimic HDF5 files as unified RLDS.

`libero` is any suite of LIBERO; another lab's files of this layout are one config and one spec more. robomimic's own
data sets are in builders/robomimic.
"""

import functools
from typing import ClassVar

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import hdf5_demo
from schemas.spec import load_spec

CONFIGS = ("libero", "libero_as_without_no_ops", "libero_as_regenerated", "libero_as_rotated", "metaworld_libero")


class Builder(UnifiedBuilder):
    """Reads every demo of every .hdf5 file below the raw folder. Pixels are turned upright and encoded by the spec."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download one or more suites (https://libero-project.github.io/datasets) and give the folder with the
    <task>_demo.hdf5 files, or a folder above it, as --manual_dir.
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
