import h5py
import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.hdf5_file import holds, text_attribute


@pytest.fixture
def content(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["images/left"] = np.zeros(3)
        file["elsewhere"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/images")
        file["images/elsewhere"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/images")
        file.attrs["robot"] = "saw\u00edr"
        file.attrs.create("bytes", np.bytes_(b"saw\xff\xfer"))
        file.attrs.create("damaged", b"saw\xff\xfer", dtype=h5py.string_dtype("utf-8", 6))
        yield file


def test_what_lies_at_a_path_is_found_and_links_on_the_way_are_not_followed(content):
    assert holds(content, "images/left", "e") and holds(content, "images", "e")
    assert not holds(content, "images/right", "e") and not holds(content, "a/b/c", "e")
    assert not holds(content, "images/left/more", "e"), "an array holds nothing"
    assert holds(content, "images/elsewhere", "e"), "whoever reads it is told"
    with pytest.raises(DataError, match="is a link to another file or place"):
        holds(content, "elsewhere/left", "e")


def test_attributes_that_are_no_utf_8_become_text_that_a_file_can_hold(content):
    assert text_attribute(content, "robot", "e") == "saw\u00edr" and text_attribute(content, "none", "e") == ""
    for name in ("bytes", "damaged"):
        assert text_attribute(content, name, "e") == "saw\ufffd\ufffdr"
