"""`tfds build builders/furniture_bench --manual_dir DIR`: FurnitureBench's pickles as unified RLDS."""

import functools
from typing import ClassVar

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import furniture_bench
from schemas.spec import load_spec


class Builder(UnifiedBuilder):
    """Reads every pickle below the raw folder with the restricted unpickler."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download FurnitureBench (https://clvrai.github.io/furniture-bench/docs/tutorials/dataset.html) and give the folder
    with low/, med/ and high/, or one of them, as --manual_dir.
    """
    BUILDER_CONFIGS: ClassVar = [
        UnifiedConfig(name="furniture_bench", description=load_spec("furniture_bench").title),
    ]

    def list_episodes(self, manual_dir: str) -> dict[str, list[str]]:
        """All episodes under "train"; the collector knows no splits."""
        self._raw_folder = manual_dir
        episodes = furniture_bench.find_episodes(manual_dir)
        if not episodes:
            raise BuildStopped(f"error: {manual_dir}: holds no .pkl file; give the raw folder as --manual_dir")
        return {"train": episodes}

    def read_episode(self):
        return functools.partial(furniture_bench.read_episode, root=self._raw_folder)
