"""`tfds build builders/robonet --manual_dir DIR`: RoboNet's raw HDF5 files as unified RLDS."""

import functools
from typing import ClassVar

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import robonet
from schemas.spec import load_spec


class Builder(UnifiedBuilder):
    """Reads every .hdf5 file below the raw folder; one file is one episode."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download RoboNet (https://www.robonet.wiki) and give the folder with the .hdf5 files, or a folder above it, as
    --manual_dir.
    """
    BUILDER_CONFIGS: ClassVar = [UnifiedConfig(name="robonet_raw", description=load_spec("robonet_raw").title)]

    def list_episodes(self, manual_dir: str) -> dict[str, list[str]]:
        """All episodes under "train"; the files know no splits."""
        self._raw_folder = manual_dir
        episodes = robonet.find_episodes(manual_dir)
        if not episodes:
            raise BuildStopped(f"error: {manual_dir}: holds no .hdf5 file; give the raw folder as --manual_dir")
        return {"train": episodes}

    def read_episode(self):
        return functools.partial(robonet.read_episode, root=self._raw_folder)
