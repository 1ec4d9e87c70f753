"""`tfds build builders/umi --config NAME --manual_dir DIR`: UMI's replay buffers (dataset.zarr.zip) as unified RLDS.

`umi` takes one gripper, `umi_bimanual` two.
"""

import functools
from typing import ClassVar

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import zarr_replay
from schemas.spec import load_spec


class Builder(UnifiedBuilder):
    """Reads every episode of every replay buffer below the raw folder. Actions, which UMI does not record, are made by
    the spec from the states that follow."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Give the folder that holds dataset.zarr.zip (https://real.stanford.edu/umi/data), as UMI's
    07_generate_replay_buffer.py writes it, or a folder above it, as --manual_dir.
    """
    BUILDER_CONFIGS: ClassVar = [
        UnifiedConfig(name=name, description=load_spec(name).title) for name in ("umi", "umi_bimanual")
    ]

    def list_episodes(self, manual_dir: str) -> dict[str, list[str]]:
        """All episodes under "train"; the layout knows no splits."""
        self._raw_folder = manual_dir
        episodes = list(zarr_replay.find_episodes(manual_dir))
        if not episodes:
            raise BuildStopped(
                f"error: {manual_dir}: holds no .zarr.zip file and no .zarr folder; give the folder above it as "
                "--manual_dir"
            )
        return {"train": episodes}

    def read_episode(self):
        return functools.partial(zarr_replay.read_episode, root=self._raw_folder)
