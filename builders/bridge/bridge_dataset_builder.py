"""`tfds build builders/bridge --config NAME --manual_dir DIR`: BridgeData V2 raw folders as unified RLDS.

`bridge_dataset` is the published collection; any other lab that records in this layout is one config more.
"""

import functools
import re
from typing import ClassVar

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import bridge_raw
from schemas.spec import load_spec


class Builder(UnifiedBuilder):
    """Reads traj<N> folders at any depth below the raw folder. JPEG bytes pass through as they are."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Unpack the raw archives (https://rail.eecs.berkeley.edu/datasets/bridge_release/data/: demos_8_17.zip and
    scripted_6_18.zip) and give the folder they unpack to, or any folder inside it, as --manual_dir.
    """
    BUILDER_CONFIGS: ClassVar = [
        UnifiedConfig(name=name, description=load_spec(name).title) for name in ("bridge_dataset", "metaworld_bridge")
    ]

    def list_episodes(self, manual_dir: str) -> dict[str, list[str]]:
        """All episodes under "train": the collection has no split of its own, so the spec's hash decides."""
        self._raw_folder = manual_dir
        episodes = list(bridge_raw.find_episodes(manual_dir))
        if not episodes:
            raise BuildStopped(f"error: {manual_dir}: holds no traj<N> folder; give the raw folder as --manual_dir")
        return {"train": episodes}

    def read_episode(self):
        return functools.partial(bridge_raw.read_episode, root=self._raw_folder, cameras=self._cameras())

    def _cameras(self) -> tuple[int, ...]:
        """Numbers of the camera folders that the spec uses; the others are not even read."""
        keys = [camera.source for camera in self.spec.cameras.values()]
        return tuple(sorted(int(match[1]) for key in keys if (match := re.fullmatch(r"observation/image_(\d)", key))))
