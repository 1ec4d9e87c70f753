"""Videos of numbered images in several codecs: the right frames, one at a time, and damage that is said."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.apply_spec import encoded_frames
from oxe_pipeline.ingest.video import VideoFrames
from schemas.spec import Camera
from tests.ingest.numbered_video import number_of, numbered_image, numbered_images

av = pytest.importorskip("av")

from samples.video_file import write_video  # noqa: E402

FRAMES, RATE_HZ = 50, 25
FILES = {"libx264": "mp4", "libx265": "mkv", "libsvtav1": "mp4", "mpeg4": "mp4", "libvpx-vp9": "webm", "msmpeg4": "avi"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, Path]:
    """Codec to a video whose frame i shows i. H.264 and HEVC store frames out of order, with keyframes far apart."""
    folder = tmp_path_factory.mktemp("videos")
    paths = {codec: folder / f"{codec}.{suffix}" for codec, suffix in FILES.items()}
    for codec, path in paths.items():
        write_video(path, numbered_images(range(FRAMES)), rate_hz=RATE_HZ, codec=codec)
    return paths


def numbers(frames: VideoFrames) -> list[int]:
    return [number_of(image) for image in frames]


@pytest.mark.parametrize("codec", FILES)
def test_every_codec_gives_all_frames_in_order_in_rgb(videos, codec):
    frames = VideoFrames(videos[codec])
    assert len(frames) == FRAMES
    images = list(frames)
    assert [number_of(image) for image in images] == list(range(FRAMES))
    assert images[0].dtype == np.uint8 and images[0].shape == (64, 80, 3)


@pytest.mark.parametrize("codec", FILES)
def test_a_range_by_number_and_by_time_is_the_same_frames_with_the_same_identity(videos, codec):
    assert numbers(VideoFrames(videos[codec], times_s=[0.0, 0.04])) == [0, 1]
    by_number = VideoFrames(videos[codec], start=31, stop=36)
    by_time = VideoFrames(videos[codec], times_s=np.arange(31, 36) / RATE_HZ + 0.003)
    sliced = VideoFrames(videos[codec])[31:36]
    for frames in (by_number, by_time, sliced):
        assert len(frames) == 5 and numbers(frames) == [31, 32, 33, 34, 35]
    assert by_number.identity() == by_time.identity() == sliced.identity()


@settings(max_examples=30)
@given(times=st.lists(st.floats(0, (FRAMES - 1) / RATE_HZ), min_size=1, max_size=20))
def test_a_video_brought_to_another_rate_has_the_nearest_frame_for_each_time(videos, times):
    times = sorted(times)
    shown = numbers(VideoFrames(videos["libx264"], times_s=times))
    for time_s, number in zip(times, shown, strict=True):
        assert abs(number / RATE_HZ - time_s) <= 0.5 / RATE_HZ + 1e-9


def test_a_time_without_a_frame_is_a_fault_that_names_it(videos):
    with pytest.raises(DataError, match=r"libx264\.mp4: no frame within 20\.0 ms of 2\.040 s \(image 1\)"):
        VideoFrames(videos["libx264"], times_s=[1.0, 2.04], tolerance_s=0.02)
    with pytest.raises(DataError, match="go backwards"):
        VideoFrames(videos["libx264"], times_s=[1.0, 0.5])


def test_more_frames_than_there_are_is_a_fault_that_names_both_counts(videos):
    with pytest.raises(DataError, match="frames 0 to 51 are wanted of 50"):
        VideoFrames(videos["libx264"], stop=51)


def test_identity_does_not_depend_on_the_files_name_and_tells_ranges_and_content_apart(videos, tmp_path):
    path = videos["libx264"]
    copy = tmp_path / "renamed.mp4"
    copy.write_bytes(path.read_bytes())
    other = tmp_path / "other.mp4"
    write_video(other, numbered_images([*range(49), 99]), rate_hz=RATE_HZ, codec="libx264")
    whole = VideoFrames(path)
    assert VideoFrames(copy).identity() == whole.identity()
    identities = {whole.identity(), whole[1:].identity(), whole[:-1].identity(), VideoFrames(other).identity()}
    assert len(identities) == 4


def test_frames_that_an_edit_list_cuts_off_are_not_counted(videos, tmp_path):
    """As after cutting a video without encoding it anew: the first frames are there to decode from, but not shown."""
    with av.open(str(videos["libx264"])) as container:
        ticks = round(10 / RATE_HZ / container.streams.video[0].time_base)
    trimmed = tmp_path / "trimmed.mp4"
    remux(videos["libx264"], trimmed, earlier_ticks=ticks, avoid_negative_ts="disabled")
    frames = VideoFrames(trimmed)
    assert len(frames) == FRAMES - 10 and numbers(frames) == list(range(10, FRAMES))
    assert numbers(VideoFrames(trimmed, times_s=[0, 0.04, 1.0])) == [10, 11, 35]


@pytest.mark.parametrize("gop", [2, 5])
def test_short_groups_of_pictures_that_lean_on_their_neighbours_are_sought_right(tmp_path, gop):
    path = tmp_path / "open.mp4"
    options = {"g": str(gop), "bf": "3", "x264-params": "open-gop=1"}
    write_video(path, numbered_images(range(24)), rate_hz=RATE_HZ, codec="libx264", options=options)
    for start in range(22):
        expected = [start, start + 1, start + 2][: 24 - start]
        assert numbers(VideoFrames(path, start=start, stop=start + len(expected))) == expected
        assert numbers(VideoFrames(path, times_s=np.array(expected) / RATE_HZ)) == expected


def test_only_the_part_around_the_times_is_scanned(tmp_path):
    path = tmp_path / "long.mp4"
    write_video(path, (numbered_image(i) for i in range(500)), rate_hz=RATE_HZ, codec="mpeg4")
    frames = VideoFrames(path, times_s=np.arange(400, 405) / RATE_HZ)
    assert numbers(frames) == list(range(400, 405))
    assert len(frames._shown) < 30


def test_three_hundred_frames_are_never_in_memory_together(tmp_path):
    path = tmp_path / "large.mp4"
    image = numbered_image(7, height=480, width=640)
    write_video(path, (image for _ in range(300)), rate_hz=RATE_HZ, codec="mpeg4")
    tracemalloc.start()
    frames = VideoFrames(path)
    count = sum(1 for _ in frames)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 300
    assert peak < 6 * image.nbytes


def test_frames_become_encoded_images_of_the_right_colour(videos):
    encoded = encoded_frames(VideoFrames(videos["libsvtav1"], stop=3), Camera(source="x"))
    assert [data[:2] for data in encoded] == [b"\xff\xd8"] * 3


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.95])
def test_a_truncated_video_is_a_data_error_before_any_frame_is_decoded(videos, tmp_path, share):
    content = videos["libx264"].read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"ep7: wrist: cut\.mp4: .*copy it again"):
        VideoFrames(cut, episode="ep7", field="wrist")


def remux(source: Path, target: Path, *, earlier_ticks: int = 0, **options: str) -> None:
    """The same packets in another file, shown so much earlier."""
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.pts, packet.dts = packet.pts - earlier_ticks, packet.dts - earlier_ticks
                packet.stream = stream
                new.mux(packet)


def test_a_video_cut_after_its_index_lacks_declared_frames(videos, tmp_path):
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    remux(videos["libx264"], whole, movflags="faststart")
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) * 3 // 4])
    assert VideoFrames(whole).identity() == VideoFrames(videos["libx264"]).identity()
    with pytest.raises(DataError, match=r"cut\.mp4: \d+ of 50 declared frames are there; the file is cut short"):
        VideoFrames(cut)


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1", "mpeg4"])
def test_damaged_bytes_give_a_data_error_or_all_promised_frames(videos, tmp_path, codec):
    content = videos[codec].read_bytes()
    rng = np.random.default_rng(0)
    damaged = tmp_path / "damaged.mp4"
    faults = 0
    for _ in range(40):
        copy = bytearray(content)
        for place in rng.integers(0, len(copy), 6):
            copy[place] = rng.integers(256)
        damaged.write_bytes(copy)
        try:
            frames = VideoFrames(damaged)
            assert len(list(frames)) == len(frames) > 0
        except DataError:
            faults += 1
    assert faults > 10


def test_a_playlist_that_calls_itself_a_video_opens_no_other_file(videos, tmp_path):
    playlist = tmp_path / "episode.mp4"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{videos['libx264']}\n#EXT-X-ENDLIST\n")
    with pytest.raises(DataError, match="not a whole video"):
        VideoFrames(playlist)


def test_absent_files_folders_and_sounds_are_data_errors(tmp_path):
    for path in (tmp_path / "none.mp4", tmp_path):
        with pytest.raises(DataError, match="no such file"):
            VideoFrames(path)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(DataError, match="holds no video stream"):
        VideoFrames(tmp_path / "sound.mp4")


def test_absurd_sizes_are_refused_before_decoding(tmp_path):
    path = tmp_path / "wide.mp4"
    write_video(path, [np.zeros((16, 8210, 3), np.uint8)], rate_hz=RATE_HZ, codec="libx264")
    with pytest.raises(DataError, match=r"images of 16x8210 pixels; sides of 8 to 8192 are sane"):
        VideoFrames(path)
