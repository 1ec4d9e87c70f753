"""`tfds build builders/aloha --config NAME --manual_dir DIR`: ALOHA and Mobile ALOHA HDF5 recordings as unified RLDS.

The configs differ in what the files cannot say about themselves: the channel order of their images, and whether the
recorder was a step late.
"""

import functools
from typing import ClassVar

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import aloha
from schemas.spec import load_spec

CONFIGS = (
    "mobile_aloha",
    "mobile_aloha_as_rgb",
    "mobile_aloha_as_pixels",
    "mobile_aloha_as_recorded",
    "aloha",
    "aloha_as_bgr",
    "aloha_as_recorded",
    "aloha_sim",
)


class Builder(UnifiedBuilder):
    """Reads every episode_<N>.hdf5 below the raw folder, pixels one image at a time."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Give the folder that holds one folder a task, each with episode_<N>.hdf5 files, as --manual_dir.
    """
    BUILDER_CONFIGS: ClassVar = [UnifiedConfig(name=name, description=load_spec(name).title) for name in CONFIGS]

    def list_episodes(self, manual_dir: str) -> dict[str, list[str]]:
        """All episodes under "train"; folders train and val, where there are, stand in episode_metadata/split."""
        self._raw_folder = manual_dir
        episodes, others = aloha.find_episodes(manual_dir)
        if not episodes:
            raise BuildStopped(f"error: {manual_dir}: holds no episode_<N>.hdf5; give the folder of the tasks")
        self.note(skipped_files=others)
        return {"train": episodes}

    def read_episode(self):
        return functools.partial(aloha.read_episode, root=self._raw_folder)
