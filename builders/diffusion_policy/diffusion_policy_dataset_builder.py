"""`tfds build builders/diffusion_policy --config NAME --manual_dir DIR`: replay buffers in Zarr as unified RLDS.

`pusht_zarr` is the simulated PushT, with its images in the store; `diffusion_policy_real` a real robot's session, with
videos beside it. A lab's own replay buffer is one spec and one name more.
"""

import functools
from typing import ClassVar

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import zarr_replay
from schemas.spec import load_spec

VIDEOS = "videos/"
"""Sources of a spec's cameras that begin with this are MP4 files beside the store."""


class Builder(UnifiedBuilder):
    """Reads every episode of every replay buffer below the raw folder."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Give the folder that holds the .zarr folder or .zarr.zip file (https://diffusion-policy.cs.columbia.edu/data), or a
    folder above it, as --manual_dir.
    """
    BUILDER_CONFIGS: ClassVar = [
        UnifiedConfig(name=name, description=load_spec(name).title) for name in ("pusht_zarr", "diffusion_policy_real")
    ]

    def list_episodes(self, manual_dir: str) -> dict[str, list[str]]:
        """All episodes under "train"; the layout knows no splits."""
        self._raw_folder = manual_dir
        episodes = list(zarr_replay.find_episodes(manual_dir))
        if not episodes:
            raise BuildStopped(
                f"error: {manual_dir}: holds no .zarr folder and no .zip file; give the folder above it as --manual_dir"
            )
        return {"train": episodes}

    def read_episode(self):
        cameras = [camera.source for camera in self.spec.cameras.values()]
        videos = tuple(source.removeprefix(VIDEOS) for source in cameras if source.startswith(VIDEOS))
        return functools.partial(zarr_replay.read_episode, root=self._raw_folder, videos=videos)
