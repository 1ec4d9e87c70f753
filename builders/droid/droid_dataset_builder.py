"""`tfds build builders/droid --config NAME --manual_dir DIR`: DROID's raw recordings as unified RLDS.

`droid_raw` keeps images at their size, `droid_raw_as_published` scales them to 320x180 as the published copy has them.
The published copy itself is RLDS already: builders/oxe with config `droid`.
"""

import functools
from pathlib import Path
from typing import ClassVar

from absl import logging

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import droid_raw
from schemas.spec import load_spec


class Builder(UnifiedBuilder):
    """Reads every episode folder. Videos are decoded and stored as JPEG or PNG, as the spec says."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Copy the raw release or a part of it, e.g. one lab with
      gsutil -m cp -r "gs://gresearch/robotics/droid_raw/1.0.1/ILIAD" RAW/
    leaving out SVO recordings, with the aggregated-annotations-*.json beside it, and give RAW as --manual_dir.
    """
    BUILDER_CONFIGS: ClassVar = [
        UnifiedConfig(name=name, description=load_spec(name).title) for name in ("droid_raw", "droid_raw_as_published")
    ]

    def list_episodes(self, manual_dir: str) -> dict[str, list[droid_raw.EpisodeFolder]]:
        """All episodes under "train". Without a file of sentences there are no instructions: warned about and noted."""
        self._raw_folder = Path(manual_dir)
        files = droid_raw.annotation_files(manual_dir)
        if not files:
            logging.warning("%s: holds no aggregated-annotations-*.json; episodes will have no instruction", manual_dir)
        episodes = list(droid_raw.find_episodes(manual_dir, droid_raw.read_annotations(manual_dir)))
        if not episodes:
            raise BuildStopped(
                f"error: {manual_dir}: holds no <LAB>/success/<date>/<time> or <LAB>/failure/<date>/<time>;"
                " give the folder of the labs as --manual_dir"
            )
        self.note(
            annotation_files=files,
            episodes_with_sentences=sum(bool(episode.sentences) for episode in episodes),
        )
        return {"train": episodes}

    def read_episode(self):
        cameras = self.spec.cameras.values()
        return functools.partial(
            droid_raw.read_episode,
            root=self._raw_folder,
            cameras=frozenset(camera.source for camera in cameras),
            optional=frozenset(camera.source for camera in cameras if camera.missing == "absent"),
        )
