"""`tfds build builders/rosbag --config NAME --manual_dir DIR`: ROS 1 and ROS 2 bags and MCAP files as unified RLDS.

Every spec with `bag`, the map from topics to columns, is a config: a lab's own bags take one YAML file in
`schemas/datasets/` and no code.
"""

import functools
from typing import ClassVar

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import bag
from schemas.spec import load_spec, spec_names


class Builder(UnifiedBuilder):
    """Reads every bag below the raw folder, by the topics that the spec names."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Give the folder with the .bag or .mcap files or the ROS 2 bag folders, or a folder above it, as --manual_dir.
    """
    BUILDER_CONFIGS: ClassVar = [
        UnifiedConfig(name=name, description=load_spec(name).title) for name in spec_names() if load_spec(name).bag
    ]

    def list_episodes(self, manual_dir: str) -> dict[str, list[str]]:
        """All episodes under "train"; bags know no splits."""
        self._raw_folder = manual_dir
        episodes = list(bag.find_episodes(manual_dir, self.spec))
        if not episodes:
            raise BuildStopped(
                f"error: {manual_dir}: holds no .bag, .db3 or .mcap file and no ROS 2 bag folder; give the raw folder "
                "as --manual_dir"
            )
        return {"train": episodes}

    def read_episode(self):
        return functools.partial(bag.read_episode, root=self._raw_folder, spec=self.spec)
