"""`tfds build builders/maniskill --config NAME --manual_dir DIR`: ManiSkill 2 and 3 demonstrations as unified RLDS.

One config for each controller whose actions have a place in the unified vector: what a number means is the
controller's.
"""

import functools
from typing import ClassVar

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import maniskill
from schemas.spec import load_spec

CONFIGS = (
    "maniskill3_ee_delta",
    "maniskill3_ee_delta_as_positive_rotation",
    "maniskill3_ee_delta_as_target",
    "maniskill3_joint",
    "maniskill3_joint_as_delta",
    "maniskill2_ee_delta",
    "maniskill2_ee_delta_as_base",
)


class Builder(UnifiedBuilder):
    """Reads every traj_<id> of every .h5 file below the raw folder, pixels one image at a time."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download demonstrations (python -m mani_skill.utils.download_demo), replay them with observations (python -m
    mani_skill.trajectory.replay_trajectory --obs-mode rgb --target-control-mode pd_ee_delta_pose --save-traj), and give
    the folder of the .h5 and .json files as --manual_dir.
    """
    BUILDER_CONFIGS: ClassVar = [UnifiedConfig(name=name, description=load_spec(name).title) for name in CONFIGS]

    def list_episodes(self, manual_dir: str) -> dict[str, list[str]]:
        """All episodes under "train": the files have no split, so the spec's hash decides."""
        self._raw_folder = manual_dir
        episodes = list(maniskill.find_episodes(manual_dir))
        if not episodes:
            raise BuildStopped(f"error: {manual_dir}: holds no .h5 file; give the folder of the demonstrations")
        return {"train": episodes}

    def read_episode(self):
        return functools.partial(maniskill.read_episode, root=self._raw_folder)
