"""The cache's folder where its files go away under it: no name ever shows the bytes of somebody's half download."""

import os
import shutil

import pytest

from oxe_pipeline.stream.cache_folder import CacheFolder
from oxe_pipeline.stream.format import FileEntry

ENTRY = FileEntry(bytes=5, xxh3="0" * 32)


def test_a_download_that_lost_its_part_gives_no_final_name_to_the_part_another_has_begun(tmp_path):
    one, other = (CacheFolder(tmp_path / "cache", 100) for _ in range(2))
    with one.claim(ENTRY, 0) as lost:
        os.write(lost, b"whole")
        shutil.rmtree(tmp_path / "cache")
        with other.claim(ENTRY, 0) as begun:
            os.write(begun, b"ha")
            with pytest.raises(FileNotFoundError):
                one.finish("shards/0.steps.arrow", ENTRY, lost)
            assert not one.whole("shards/0.steps.arrow", ENTRY).exists()
            os.write(begun, b"lf!")
            assert other.finish("shards/0.steps.arrow", ENTRY, begun).read_bytes() == b"half!"
