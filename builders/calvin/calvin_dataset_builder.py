"""`tfds build builders/calvin --config NAME --manual_dir DIR`: CALVIN's frame files as unified RLDS.

`calvin` makes an episode of every language window, `calvin_play` of the recordings themselves; so does any spec that
names no language source.
"""

import functools
from pathlib import Path
from typing import ClassVar

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import calvin
from oxe_pipeline.ingest.calvin_index import RANGES_FILE, Segment, find_split_folders, language_windows, play
from schemas.spec import load_spec


class Builder(UnifiedBuilder):
    """Reads every split folder below the raw folder; "validation" becomes val."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download a data set (https://github.com/mees/calvin, dataset/download_data.sh) and give its folder, e.g. task_D_D
    with training and validation, as --manual_dir.
    """
    BUILDER_CONFIGS: ClassVar = [
        UnifiedConfig(name="calvin", description=load_spec("calvin").title),
        UnifiedConfig(name="calvin_as_rel_actions", description="The same with CALVIN's own relative actions."),
        UnifiedConfig(name="calvin_play", description=load_spec("calvin_play").title),
    ]

    def list_episodes(self, manual_dir: str) -> dict[str, list[Segment]]:
        """Segments by split. How many frames the windows refer to, and how many of them are different, goes into
        metadata.json. A split folder itself is read from the folder above it, since its name is the split."""
        folders = find_split_folders(manual_dir)
        self._raw_folder = Path(manual_dir)
        if folders == [""]:
            named = self._raw_folder.resolve()
            self._raw_folder, folders = named.parent, [named.name]
        if not folders:
            raise BuildStopped(
                f"error: {manual_dir}: no {RANGES_FILE} in it or below; give CALVIN's folder as --manual_dir"
            )
        segments_of = language_windows if self.spec.language.sources else play
        segments: dict[str, list[Segment]] = {}
        for folder in folders:
            for segment in segments_of(self._raw_folder, folder):
                segments.setdefault("val" if segment.split == "validation" else "train", []).append(segment)
        self.note(frames=frame_counts(segments))
        return segments

    def read_episode(self):
        return functools.partial(calvin.read_episode, root=self._raw_folder)


def frame_counts(segments: dict[str, list[Segment]]) -> dict[str, dict[str, int]]:
    """Split to the frames its segments refer to, counted each time and once."""
    counts = {}
    for split, found in segments.items():
        reached: dict[str, int] = {}
        different = 0
        for segment in sorted(found, key=lambda segment: (segment.folder, segment.first)):
            start = max(segment.first, reached.get(segment.folder, 0))
            different += max(0, segment.stop - start)
            reached[segment.folder] = max(segment.stop, reached.get(segment.folder, 0))
        counts[split] = {"referred_to": sum(s.stop - s.first for s in found), "different": different}
    return counts
