"""LeRobot folders of both versions whose images carry their number, and the two real copies."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.lerobot import LONGER_VIDEO, RATE_DIFFERS, UNEVEN, Copied, find_episodes, read_episode
from oxe_pipeline.ingest.lerobot_table import Rows, read_columns
from schemas.spec import DatasetSpec, load_spec
from tests.ingest.numbered_video import number_of, numbered_images

pytest.importorskip("av")

from samples.lerobot_layout import Demonstration, Recorder, write_v21, write_v30
from samples.video_file import write_video

FRONT, WRIST = "observation.images.front", "observation.images.wrist"
FEATURES = ["observation.state", "action", FRONT, WRIST]
RECORDER = Recorder(fps=10, robot_type="test_arm", names=["a", "b"], codec="libx264")
WRITERS = {"2.1": write_v21, "3.0": write_v30}


def demonstration(number: int, *, tasks: list[str] | None = None, cameras=(FRONT, WRIST)) -> Demonstration:
    """Episode `number` has 8 + number rows; its images count from 100 * number, the wrist's 50 higher."""
    steps = 8 + number
    values = 100 * number + np.arange(steps)
    return Demonstration(
        state=np.stack([values, values + 0.5], axis=1),
        action=np.stack([values + 1, -values], axis=1),
        images={name: numbered_images(values + 50 * (name == WRIST)) for name in cameras},
        tasks=tasks or ["put the cup on the plate"] * steps,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Path]:
    """Version to a folder of three episodes; in 3.0 the first two share their files."""
    folders = {version: tmp_path_factory.mktemp("lerobot") / version for version in WRITERS}
    for version, write in WRITERS.items():
        write(folders[version], [demonstration(number) for number in range(3)], RECORDER)
    return folders


@pytest.fixture
def folder(whole, tmp_path) -> dict[str, Path]:
    """A copy of each that a test may damage."""
    return {version: Path(shutil.copytree(path, tmp_path / version)) for version, path in whole.items()}


def found(root: Path, **options) -> Copied:
    return find_episodes(root, cameras=(FRONT, WRIST), **options)


def read(root: Path, number: int = 0, *, features=tuple(FEATURES), **options):
    return read_episode(found(root, **options).keys[number], root=root, features=features, **options)


def rewrite(root: Path, file: str, change) -> None:
    """Applies `change` to a Parquet table in place."""
    path = root / file
    pq.write_table(change(pq.read_table(path)), path)


def set_column(table: pa.Table, name: str, values) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, pa.array(values))


def edit_info(root: Path, **entries) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize("version", WRITERS)
def test_each_row_has_its_own_frame_of_each_camera(whole, version):
    for number in range(3):
        episode = read(whole[version], number)
        values = 100 * number + np.arange(8 + number)
        assert episode.key == f"episode_{number:06d}"
        assert episode.steps["observation.state"].tolist() == np.stack([values, values + 0.5], 1).tolist()
        assert episode.steps["action"].dtype == np.float32
        assert [number_of(image) for image in episode.steps[FRONT]] == values.tolist()
        assert [number_of(image) for image in episode.steps[WRIST]] == (values + 50).tolist()
        assert episode.metadata == {
            "task": ["put the cup on the plate"],
            "episode_index": number,
            "robot_type": "test_arm",
        }
        assert (episode.quality_flags, episode.split) == ((), "")


@pytest.mark.parametrize("version", WRITERS)
def test_features_that_nobody_asks_for_are_not_read(whole, version):
    [key, *_] = find_episodes(whole[version], cameras=(FRONT,)).keys
    assert list(key.declared.videos) == [FRONT]
    episode = read_episode(key, root=whole[version], features=["action", FRONT])
    assert set(episode.steps) == {"action", FRONT, "timestamp", "frame_index"}


def test_both_versions_give_the_same_actions_through_a_spec(whole):
    content = {
        "name": "toy",
        "source_kind": "raw",
        "title": "Toy",
        "lab": "lab",
        "robot": "arm",
        "control_hz": 10,
        "licence": "CC0",
        "citation": "none",
        "cameras": {"primary": {"source": FRONT}, "wrist": {"source": WRIST, "missing": "absent"}},
        "action": [{"slots": "arm0.joint_position[0:2]", "source": "action"}],
        "action_raw": ["action"],
        "state_raw": ["observation.state"],
        "language": {"sources": ["task"]},
    }
    spec = DatasetSpec.model_validate(content)
    assert spec.source_keys() == {*FEATURES, "task"}
    two, three = (apply_spec(read(whole[version], 1), spec) for version in WRITERS)
    np.testing.assert_array_equal(two.action, three.action)
    assert two.action[:, 7].tolist() == [101 + t for t in range(9)]
    assert two.instruction == three.instruction == "put the cup on the plate"
    assert set(two.images) == {"primary", "wrist"} and len(three.images["wrist"]) == 9


@pytest.mark.parametrize("version", WRITERS)
def test_files_that_were_not_copied_are_counted_and_the_rest_is_read(folder, version):
    root = folder[version]
    (lost,) = root.glob("data/chunk-000/*_000001.parquet") if version == "2.1" else root.glob("data/*/file-001.parquet")
    lost.unlink()
    copied = found(root)
    assert (copied.declared, copied.not_copied, len(copied.keys)) == (3, 1, 2)
    assert list(copied.absent) == [lost.relative_to(root).as_posix()]
    assert len(read(root, 1).steps["action"]) == (10 if version == "2.1" else 9)


def test_a_pointer_of_git_lfs_is_a_file_that_was_not_copied(folder):
    video = folder["2.1"] / f"videos/chunk-000/{FRONT}/episode_000001.mp4"
    video.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4665a5ea\nsize 9121\n")
    copied = found(folder["2.1"])
    assert (len(copied.keys), list(copied.absent)) == (2, [video.relative_to(folder["2.1"]).as_posix()])


@pytest.mark.parametrize("version", WRITERS)
def test_a_camera_that_may_lack_is_left_out_and_one_that_may_not_makes_the_episode_uncopied(folder, version):
    root = folder[version]
    for path in root.glob("videos/**/*.mp4"):
        if WRIST in path.as_posix() and path.stem in ("episode_000000", "file-000"):
            path.unlink()
    assert found(root).not_copied == (1 if version == "2.1" else 2)
    assert found(root, optional={WRIST}).not_copied == 0
    assert WRIST not in read(root, 0, optional={WRIST}).steps
    assert WRIST in read(root, 2, optional={WRIST}).steps
    with pytest.raises(DataError, match=rf"episode episode_000000: {WRIST}: .*no such file"):
        read_episode(found(root, optional={WRIST}).keys[0], root=root, features=FEATURES)


@pytest.mark.parametrize("version", WRITERS)
def test_an_episode_whose_frames_change_their_task_comes_out_in_parts(tmp_path, version):
    tasks = ["pick the cup"] * 5 + ["place the cup"] * 3 + ["pick the cup"] * 2
    WRITERS[version](tmp_path, [demonstration(0), demonstration(2, tasks=tasks)], RECORDER)
    keys = found(tmp_path).keys
    rows = ["episode_000001/rows_0_5", "episode_000001/rows_5_8", "episode_000001/rows_8_10"]
    assert [str(key) for key in keys] == ["episode_000000", *rows]
    parts = [read_episode(key, root=tmp_path, features=FEATURES) for key in keys[1:]]
    assert [part.metadata["task"] for part in parts] == [["pick the cup"], ["place the cup"], ["pick the cup"]]
    shown = [[number_of(image) for image in part.steps[WRIST]] for part in parts]
    assert shown == [list(range(250, 255)), list(range(255, 258)), list(range(258, 260))]
    assert [part.steps["action"][0, 0] for part in parts] == [201, 206, 209]


def test_several_sentences_for_frames_of_one_task_are_alternatives(folder):
    path = folder["2.1"] / "meta/episodes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["tasks"] = ["set the cup down on the plate", "put the cup on the plate"]
    path.write_text("\n".join(map(json.dumps, lines)))
    episode = read(folder["2.1"])
    assert episode.metadata["task"] == ["put the cup on the plate", "set the cup down on the plate"]


def test_a_sentence_with_odd_line_breaks_is_one_line_of_the_table(folder):
    """JSON writers leave U+2028 and U+0085 as they are."""
    path = folder["2.1"] / "meta/episodes.jsonl"
    line = {"episode_index": 0, "length": 8, "tasks": ["put the cup\u2028on the\x85plate"]}
    path.write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read(folder["2.1"]).metadata["task"] == ["put the cup\u2028on the\x85plate"]


def test_a_bare_sentence_where_a_list_should_stand_is_not_taken_apart(folder):
    """As some converters write it."""
    table = "meta/episodes/chunk-000/file-000.parquet"
    rewrite(folder["3.0"], table, lambda rows: set_column(rows, "tasks", ["push it", None, "lift it"]))
    keys = found(folder["3.0"]).keys
    assert [key.tasks for key in keys] == [("push it",), ("put the cup on the plate",), ("lift it",)]


@pytest.mark.parametrize("version", WRITERS)
def test_an_episode_that_is_listed_twice_is_a_fault_of_the_folder(folder, version):
    root = folder[version]
    if version == "2.1":
        path = root / "meta/episodes.jsonl"
        path.write_text(path.read_text() + path.read_text().splitlines()[1])
    else:
        table = "meta/episodes/chunk-000/file-000.parquet"
        rewrite(root, table, lambda rows: pa.concat_tables([rows, rows.slice(1, 1)]))
    with pytest.raises(DataError, match="episode_index 1 is listed twice"):
        found(root)


def test_images_in_the_tables_keep_their_bytes(tmp_path):
    recorder = Recorder(fps=10, robot_type="test_arm", names=["a", "b"], images_in_tables=True)
    write_v21(tmp_path, [demonstration(1)], recorder)
    stored = pq.read_table(tmp_path / "data/chunk-000/episode_000000.parquet").column(FRONT).to_pylist()
    episode = read(tmp_path)
    assert episode.steps[FRONT] == [entry["bytes"] for entry in stored]
    assert episode.steps[FRONT][0].startswith(b"\x89PNG")


def test_an_image_that_is_named_by_its_path_is_read_below_the_folder_only(tmp_path):
    recorder = Recorder(fps=10, robot_type="test_arm", names=["a", "b"], images_in_tables=True)
    write_v21(tmp_path / "set", [demonstration(0, cameras=(FRONT,))], recorder)
    (tmp_path / "secret.png").write_bytes(b"\x89PNG")
    table = "data/chunk-000/episode_000000.parquet"
    structs = [{"bytes": None, "path": "../secret.png"}] * 8
    rewrite(tmp_path / "set", table, lambda rows: set_column(rows, FRONT, structs))
    with pytest.raises(DataError, match="leads out of the raw folder"):
        read(tmp_path / "set", features=[FRONT])


@pytest.mark.parametrize("version", WRITERS)
def test_path_templates_cannot_lead_out_of_the_folder_or_ask_for_more_than_a_number(folder, version):
    root = folder[version]
    for template, reason in (
        ("../data/{episode_index}{file_index}.parquet", "unknown field|leads out"),
        ("{episode_index.__class__}", "is not as LeRobot writes it"),
        ("{episode_index:99999999d}", "is not as LeRobot writes it"),
        ("/etc/{video_key}", "unknown field"),
        ("/etc/passwd", "absolute path"),
        ("../x", "leads out"),
        ("nul\0byte", "no file can be opened by this name"),
        ("x" * 5000, "File name too long"),
    ):
        edit_info(root, data_path=template)
        with pytest.raises(DataError, match=reason):
            found(root)


def test_more_rows_than_frames_is_a_fault_and_fewer_a_flag(folder):
    root = folder["2.1"]
    video = root / f"videos/chunk-000/{FRONT}/episode_000000.mp4"
    write_video(video, numbered_images(range(7)), rate_hz=10, codec="libx264")
    with pytest.raises(DataError, match=rf"episode episode_000000: {FRONT}: 7 images for 8 rows"):
        read(root)
    write_video(video, numbered_images(range(9)), rate_hz=10, codec="libx264")
    episode = read(root)
    assert episode.quality_flags == (LONGER_VIDEO,)
    assert [number_of(image) for image in episode.steps[FRONT]] == list(range(8))


def test_rows_that_reach_into_the_next_episodes_images_are_a_fault(folder):
    root = folder["3.0"]
    table = "meta/episodes/chunk-000/file-000.parquet"
    rewrite(root, table, lambda rows: set_column(rows, f"videos/{WRIST}/to_timestamp", [0.6, 1.7, 1.0]))
    with pytest.raises(DataError, match=rf"{WRIST}: its last row is 0\.100 s after the end of its part of file-000"):
        read(root)


def test_rows_before_the_start_of_their_part_of_the_video_are_a_fault(folder):
    root, table = folder["3.0"], "data/chunk-000/file-000.parquet"
    early = np.array([*range(8), *range(-3, 6)], np.float32) / 10
    rewrite(root, table, lambda rows: set_column(rows, "timestamp", early))
    with pytest.raises(
        DataError, match=rf"{FRONT}: its first row is 0\.300 s before the start of its part of file-000"
    ):
        read(root, 1)


@pytest.mark.parametrize("version", WRITERS)
def test_lengths_lost_rows_and_clocks_are_checked(folder, version):
    root = folder[version]
    data = "data/chunk-000/episode_000002.parquet" if version == "2.1" else "data/chunk-000/file-001.parquet"
    original = pq.read_table(root / data)

    def put(table: pa.Table):
        pq.write_table(table, root / data)
        return read(root, 2)

    with pytest.raises(DataError, match="episode episode_000002: length: 9 rows; meta/ declares 10"):
        put(original.slice(0, 9))
    with pytest.raises(DataError, match="frame_index: goes from 3 to 5 at row 4: rows are lost or double"):
        put(set_column(original, "frame_index", [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]))
    with pytest.raises(DataError, match="timestamp: holds NaN"):
        put(set_column(original, "timestamp", np.full(10, np.nan, np.float32)))
    with pytest.raises(DataError, match=r"action: .*a row has no value"):
        put(set_column(original, "action", [[1.0, 2.0]] * 9 + [None]))
    with pytest.raises(DataError, match=r"action: .*rows of different widths"):
        put(set_column(original, "action", [[1.0, 2.0]] * 9 + [[1.0]]))
    assert put(set_column(original, "index", np.arange(10) + 7777)).quality_flags == ()
    jump = np.array([0, 1, 2, 3, 4, 5.0, 5.4, 7, 8, 9], np.float32) / 10
    assert put(set_column(original, "timestamp", jump)).quality_flags == (UNEVEN,)


def test_another_rate_than_fps_is_flagged(folder):
    table = "data/chunk-000/episode_000000.parquet"
    slow = (np.arange(8) / 9.5).astype(np.float32)
    rewrite(folder["2.1"], table, lambda rows: set_column(rows, "timestamp", slow))
    assert read(folder["2.1"]).quality_flags == (RATE_DIFFERS,)


def test_episodes_of_one_file_may_stand_in_any_order_but_not_mixed(folder):
    root, table = folder["3.0"], "data/chunk-000/file-000.parquet"
    original = pq.read_table(root / table)
    rewrite(root, table, lambda rows: pa.concat_tables([rows.slice(8), rows.slice(0, 8)]))
    assert [number_of(image) for image in read(root, 1).steps[FRONT]] == list(range(100, 109))
    pq.write_table(pa.concat_tables([original.slice(0, 4), original.slice(8), original.slice(4, 4)]), root / table)
    with pytest.raises(DataError, match="rows of other episodes stand between"):
        read(root, 0)


def test_only_the_row_groups_of_the_episode_are_read(folder, monkeypatch):
    root, table = folder["3.0"], "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(root / table), root / table, row_group_size=4)
    read_groups = []
    original = pq.ParquetFile.iter_batches

    def noted(self, *arguments, **options):
        read_groups.append(options["row_groups"])
        return original(self, *arguments, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    assert read(root, 1).steps["action"][:, 0].tolist() == [101 + t for t in range(9)]
    assert read_groups == [[2, 3, 4]]


@pytest.mark.parametrize("store_schema", [True, False])
def test_a_long_text_that_every_row_names_is_refused_before_it_is_copied_for_each(tmp_path, store_schema):
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100, np.int32)), pa.array(["x" * 3_000_000]))
    pq.write_table(pa.table({"label": texts}), tmp_path / "a.parquet", compression="zstd", store_schema=store_schema)
    assert (tmp_path / "a.parquet").stat().st_size < 5000
    with pytest.raises(DataError, match=r"label: .*a text of more than 1048576 bytes"):
        read_columns(tmp_path, "a.parquet", Rows(first=0, end=100), ["label"])
    short = texts.dictionary_decode().to_pylist()[0][:5]
    pq.write_table(pa.table({"label": [short, "y"]}), tmp_path / "a.parquet", store_schema=store_schema)
    assert read_columns(tmp_path, "a.parquet", Rows(first=0, end=2), ["label"]) == {"label": ["xxxxx", "y"]}


def test_version_2_0_is_read_like_2_1(folder):
    root = folder["2.1"]
    edit_info(root, codebase_version="v2.0")
    (root / "meta/episodes_stats.jsonl").rename(root / "meta/stats.json")
    assert [number_of(image) for image in read(root, 1).steps[FRONT]] == list(range(100, 109))


def test_the_folders_own_splits_are_honoured_when_there_is_more_than_train(folder):
    edit_info(folder["2.1"], splits={"train": "0:2", "val": "2:3"})
    assert [key.split for key in found(folder["2.1"]).keys] == ["train", "train", "val"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"codebase_version": "v1.6"}, "codebase_version '1.6' is not read"),
        ({"fps": 0}, "fps is 0"),
        ({"features": {"action": {}}}, "KeyError: 'dtype'"),
        ({"features": None}, "not as LeRobot writes it"),
        ({"splits": {"train": "0:1", "val": "x"}}, "not as LeRobot writes it"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"chunks_size": float("inf")}, "OverflowError"),
    ],
)
def test_a_wrong_entry_in_info_is_named(folder, change, reason):
    edit_info(folder["3.0"], **change)
    with pytest.raises(DataError, match=rf"meta/info\.json: meta: .*{reason}"):
        found(folder["3.0"])


@pytest.mark.parametrize("version", WRITERS)
def test_damaged_files_never_raise_anything_but_a_data_error(folder, version):
    root = folder[version]
    rng = np.random.default_rng(5)
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".mp4")
    faults = 0
    for path in files:
        content = path.read_bytes()
        for trial in range(12):
            damaged = bytearray(content[: len(content) * trial // 12] if trial % 3 == 0 else content)
            for place in rng.integers(0, max(len(damaged), 1), 5 if damaged else 0):
                damaged[place] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                for key in found(root).keys:
                    apply_numbers(read_episode(key, root=root, features=["observation.state", "action"]))
            except DataError:
                faults += 1
        path.write_bytes(content)
    assert faults > len(files)


def apply_numbers(episode) -> None:
    """What a spec does first: all columns one length."""
    assert len({len(column) for column in episode.steps.values()}) == 1


def test_a_real_partial_copy_of_a_humanoids_av1_recordings(real_data):
    root, spec = real_data / "lerobot_v21_g1", load_spec("lerobot_unitree_g1_inspire")
    copied = find_episodes(root, cameras=spec.source_keys())
    assert [str(key) for key in copied.keys] == ["episode_000029", "episode_000030"]
    assert (copied.declared, copied.not_copied) == (100, 98)
    source = read_episode(copied.keys[0], root=root, features=sorted(spec.source_keys()))
    assert len(source.steps["observation.images.cam_high"]) == len(source.steps["action"]) == 221
    source.steps = {key: column[:5] for key, column in source.steps.items()}  # decoding all would take seconds
    episode = apply_spec(source, spec)
    assert episode.instruction == "pick up the yellow bottle on the table"
    assert np.flatnonzero(episode.action_mask).tolist() == [*range(7, 14), *range(21, 28)]
    table = pq.read_table(root / "data/chunk-000/episode_000029.parquet").slice(0, 5)
    recorded = np.array(table["action"].to_pylist(), np.float32)
    np.testing.assert_array_equal(episode.action[:, 21:28], recorded[:, 7:14])
    np.testing.assert_array_equal(episode.action_raw, recorded)
    assert episode.state_raw.shape == (5, 26) and len(episode.images["primary"]) == 5


def test_a_real_folder_without_cameras_comes_out_in_radians(real_data):
    root, spec = real_data / "lerobot_v30_rebot", load_spec("lerobot_rebot_b601")
    [key] = find_episodes(root).keys
    episode = apply_spec(read_episode(key, root=root, features=sorted(spec.source_keys())), spec)
    recorded = np.array(pq.read_table(root / "data/chunk-000/file-000.parquet")["action"].to_pylist())
    assert len(episode) == 871 and episode.images == {} and episode.instruction == "pick and place"
    np.testing.assert_allclose(episode.action[:, 7:13], np.radians(recorded[:, :6]), atol=1e-6)
    np.testing.assert_allclose(episode.action[:, 6], recorded[:, 6] / -270, atol=1e-6)
