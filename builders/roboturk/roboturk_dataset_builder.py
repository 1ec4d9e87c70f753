"""`tfds build builders/roboturk --manual_dir DIR`: RoboTurk's real-robot files as unified RLDS."""

import functools
from typing import ClassVar

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import roboturk
from schemas.spec import load_spec


class Builder(UnifiedBuilder):
    """Reads every demo of every .hdf5 file below the raw folder, with the videos that it names."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download Sawyer<Task>_aligned_dataset.hdf5 and its videos (https://roboturk.stanford.edu/dataset_real.html) and give
    the folder of both as --manual_dir.
    """
    BUILDER_CONFIGS: ClassVar = [UnifiedConfig(name="roboturk_real", description=load_spec("roboturk_real").title)]

    def list_episodes(self, manual_dir: str) -> dict[str, list[str]]:
        """All demos under "train"; the layout knows no splits."""
        self._raw_folder = manual_dir
        episodes = list(roboturk.find_episodes(manual_dir))
        if not episodes:
            raise BuildStopped(f"error: {manual_dir}: holds no .hdf5 file; give the folder of the recordings")
        return {"train": episodes}

    def read_episode(self):
        return functools.partial(roboturk.read_episode, root=self._raw_folder)
