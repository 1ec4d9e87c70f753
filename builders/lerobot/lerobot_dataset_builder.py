"""`tfds build builders/lerobot --config SPEC.yaml --manual_dir DIR`: a LeRobot folder, v2.0, v2.1 or v3.0, as unified
RLDS.

Every LeRobot folder has its own features and its own meaning of an action, so the usual config is the path of the lab's
own spec. The shipped ones are worked examples.
"""

import functools
from pathlib import Path
from typing import ClassVar

from absl import logging

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import lerobot
from oxe_pipeline.ingest.lerobot_meta import FolderInfo, read_info
from schemas.spec import load_spec, nearest

RATE_TOLERANCE_HZ = 0.01


class Builder(UnifiedBuilder):
    """Reads every episode whose files are there. Videos are decoded and stored as JPEG or PNG, as the spec says."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Copy the data set, or a part of it, e.g. with
      hf download --repo-type dataset OWNER/NAME --local-dir RAW
    and give the folder that holds meta/, data/ and videos/ as --manual_dir.
    """
    BUILDER_CONFIGS: ClassVar = [
        UnifiedConfig(name=name, description=load_spec(name).title)
        for name in ("metaworld_lerobot", "lerobot_unitree_g1_inspire", "lerobot_rebot_b601")
    ]

    def list_episodes(self, manual_dir: str) -> dict[str, list[lerobot.EpisodeKey]]:
        """All episodes under "train"; the folder's own splits, where it has more than that, stand in
        episode_metadata/split. Episodes that were not copied are warned about and noted in metadata.json."""
        self._raw_folder = manual_dir
        info = read_info(Path(manual_dir))
        self._require_fit(info)
        copied = lerobot.find_episodes(manual_dir, cameras=self.spec.source_keys(), optional=self._optional())
        first = next(iter(copied.absent), "")
        if not copied.keys:
            raise BuildStopped(
                f"error: {manual_dir}: none of {copied.declared} episodes has all its files (first absent: {first})"
            )
        if copied.absent:
            logging.warning(
                "%s: %d of %d declared episodes are not here (first absent file: %s); going on with the rest",
                manual_dir, copied.not_copied, copied.declared, first,
            )  # fmt: skip
        self.note(
            source={"lerobot": info.version, "robot_type": info.robot_type, "fps": info.fps},
            episodes_declared=copied.declared,
            episodes_not_copied=copied.not_copied,
            first_absent_file=first,
        )
        return {"train": copied.keys}

    def read_episode(self):
        return functools.partial(
            lerobot.read_episode,
            root=self._raw_folder,
            features=sorted(self.spec.source_keys()),
            optional=self._optional(),
        )

    def _optional(self) -> frozenset[str]:
        """Cameras that an episode may lack."""
        return frozenset(camera.source for camera in self.spec.cameras.values() if camera.missing == "absent")

    def _require_fit(self, info: FolderInfo) -> None:
        """Stops before work starts when the spec names what the folder has not, or another rate."""
        known = [name for name, feature in info.features.items() if not feature.is_depth]
        known += lerobot.METADATA
        unknown = sorted(self.spec.source_keys() - set(known))
        for key in unknown:
            reason = f"{self._raw_folder}: has no feature {key!r}, which the spec names{nearest(key, known)}"
            if key not in self._optional():
                raise BuildStopped(f"error: {reason}")
            logging.warning("%s", reason)
        if abs(self.spec.control_hz - info.fps) > RATE_TOLERANCE_HZ:
            raise BuildStopped(
                f"error: {self._raw_folder}: meta/info.json says {info.fps:g} fps, the spec says control_hz"
                f" {self.spec.control_hz:g}; put right the one that is wrong"
            )
