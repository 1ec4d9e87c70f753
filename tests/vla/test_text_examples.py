import json
import shutil

import numpy as np
import pytest
import simplejpeg

from oxe_pipeline.episode import DataError
from oxe_pipeline.vla.image_text import TextDataError
from oxe_pipeline.vla.text_examples import open_text_examples
from tests.vla.image_texts import captions, picture, png, write_jsonl, write_tar


def example(**changes) -> dict:
    return {"prompt": "<image>caption:", "images": ["0.png"], "target": "a block", **changes}


def test_a_jsonl_file_gives_its_examples_by_number_with_images_of_any_size(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "wide.png").write_bytes(png(picture(3, height=4, width=30)))
    (tmp_path / "tall.jpg").write_bytes(simplejpeg.encode_jpeg(picture(200, height=40, width=8), quality=100))
    path = write_jsonl(
        tmp_path,
        [
            {"prompt": "<image> then <image>: what?", "images": ["deep/wide.png", "tall.jpg"], "target": "ä rise"},
            "",
            {"prompt": "2 + 2 =", "target": "4"},
        ],
    )
    examples = open_text_examples(path)
    assert len(examples) == 2 and not examples.quarantined
    first, second = examples[0], examples[1]
    assert (first.prompt, first.target) == ("<image> then <image>: what?", "ä rise")
    np.testing.assert_array_equal(first.images[0], picture(3, height=4, width=30))
    assert first.images[1].shape == (40, 8, 3) and first.images[1].dtype == np.uint8
    assert (second.prompt, second.images, second.target) == ("2 + 2 =", [], "4")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{not json", "line 3: line: is no JSON"),
        ("[1, 2]", "must be a JSON object, is list"),
        (example(target=None), "target: must be a text, is missing"),
        (example(target=" "), "target: is empty"),
        (example(prompt=" ", images=[]), "prompt: is empty"),
        (example(prompt=7), "prompt: must be a text, is int"),
        (example(prompt="caption:"), "has 0 <image> for 1 images"),
        (example(images="0.png"), "images: must be a list of paths"),
        (example(images=["../0.png"]), "no path inside the file's folder"),
        (example(images=["/etc/0.png"]), "no path inside the file's folder"),
    ],
)
def test_a_line_that_is_no_example_is_set_aside_at_the_start_and_named(tmp_path, line, says):
    good = captions(tmp_path, 2).read_text().splitlines()
    examples = open_text_examples(write_jsonl(tmp_path, [*good, line, good[0]]))
    assert [examples[number].target for number in range(len(examples))] == ["picture 0", "picture 1", "picture 0"]
    (reason,) = examples.quarantined
    assert reason.startswith("texts.jsonl: line 3: ") and says in reason


def test_too_many_lines_that_are_no_examples_are_refused_and_so_is_none_at_all(tmp_path):
    good = captions(tmp_path, 2).read_text().splitlines()
    path = write_jsonl(tmp_path, [*good, "x", "y"])
    with pytest.raises(TextDataError, match=r"2 of 4 cannot be used, more than 5%.*line 3"):
        open_text_examples(path)
    assert len(open_text_examples(path, max_bad_ratio=0.5)) == 2
    with pytest.raises(TextDataError, match="none can be used: it is empty"):
        open_text_examples(write_jsonl(tmp_path, []))


def test_an_unreadable_image_names_file_line_and_image(tmp_path):
    path = captions(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(png(picture(1))[:40])
    (tmp_path / "2.png").unlink()
    examples = open_text_examples(path)
    assert examples[0].target == "picture 0"
    with pytest.raises(DataError, match=r"texts\.jsonl: line 2: images: 1\.png: "):
        examples[1]
    with pytest.raises(DataError, match=r"texts\.jsonl: line 3: images: 2\.png: .*No such file"):
        examples[2]


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(picture(1)))
    path = captions(tmp_path / "texts", 1)
    (path.parent / "0.png").unlink()
    (path.parent / "0.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(TextDataError, match="leads out of the file's folder"):
        open_text_examples(path)[0]


def test_the_identity_is_of_the_content_and_not_of_the_place(tmp_path):
    path = captions(tmp_path / "a", 3)
    identity = open_text_examples(path).identity
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert open_text_examples(tmp_path / "b").identity == identity
    path.write_text(path.read_text().replace("picture 2", "picture 7"))
    assert open_text_examples(path).identity != identity


def webdataset(number: int, ending: str = "png") -> list[tuple[str, bytes]]:
    words = {"prompt": "Q: which? <image> A:", "target": f"number {number}"}
    return [
        (f"part/{number:04d}.{ending}", png(picture(number))),
        (f"part/{number:04d}.json", json.dumps(words).encode()),
    ]


def test_tars_give_their_examples_by_number_in_the_order_of_their_names(tmp_path):
    write_tar(tmp_path / "web-1.tar", webdataset(2) + webdataset(3, "left.png"))
    write_tar(tmp_path / "web-0.tar", webdataset(0) + webdataset(1, "PNG"))
    for source in (tmp_path, tmp_path / "web-*.tar"):
        examples = open_text_examples(source)
        assert len(examples) == 4
        for number in (3, 0, 2, 1):
            found = examples[number]
            assert (found.prompt, found.target) == ("Q: which? <image> A:", f"number {number}")
            np.testing.assert_array_equal(found.images[0], picture(number))


def test_a_caption_beside_its_image_is_the_answer_to_a_standing_question(tmp_path):
    """As crawlers write it: the .json is about the crawl and has no target."""
    about = json.dumps({"url": "https://example.org", "width": 9}).encode()
    path = write_tar(tmp_path / "web.tar", [("a.jpg", png(picture(0))), ("a.json", about), ("a.txt", b" a red mug\n")])
    found = open_text_examples(path)[0]
    assert (found.prompt, found.target) == ("<image>caption:", "a red mug")


def test_long_names_and_several_images_of_one_example(tmp_path):
    key = "x" * 150
    words = json.dumps({"prompt": "<image> or <image>?", "target": "the second"}).encode()
    path = write_tar(
        tmp_path / "web.tar",
        [(f"{key}.0.png", png(picture(5))), (f"{key}.1.png", png(picture(6))), (f"{key}.json", words)],
    )
    found = open_text_examples(path)[0]
    assert [int(image[0, 0, 0]) for image in found.images] == [5, 6]


def test_members_without_texts_and_broken_texts_are_set_aside(tmp_path):
    path = write_tar(
        tmp_path / "web.tar",
        [*webdataset(0), ("only.png", png(picture(1))), ("b.json", b"{"), ("c.txt", b"no image"), *webdataset(2)],
    )
    examples = open_text_examples(path, max_bad_ratio=0.6)
    assert [examples[number].target for number in range(len(examples))] == ["number 0", "number 2"]
    reasons = [reason.removeprefix("web.tar: ") for reason in examples.quarantined]
    assert [reason.partition(":")[0] for reason in reasons] == ["only", "b", "c"]


def test_a_damaged_image_in_a_tar_names_the_file_and_the_place(tmp_path):
    path = write_tar(tmp_path / "web.tar", [("a.jpg", b"\xff\xd8 nothing"), ("a.txt", b"x")])
    with pytest.raises(DataError, match=r"web\.tar: image at byte 512: images: "):
        open_text_examples(path)[0]


@pytest.mark.parametrize("damage", ["cut in a member", "cut in a header", "noise in a header", "compressed"])
def test_a_damaged_or_compressed_tar_is_refused_when_it_is_opened(tmp_path, damage):
    path = write_tar(tmp_path / "web.tar", webdataset(0) + webdataset(1))
    data = path.read_bytes()
    header = data.index(b"part/0001.png")
    if damage == "compressed":
        import gzip

        data = gzip.compress(data)
    elif damage == "noise in a header":
        data = data[:header] + b"\x07" * 512 + data[header + 512 :]
    else:
        data = data[: header + (520 if damage == "cut in a member" else 100)]
    path.write_bytes(data)
    with pytest.raises(TextDataError, match=r"web\.tar"):
        open_text_examples(path)


def test_the_identity_of_tars_notices_another_caption_and_another_order(tmp_path):
    def identity(*members) -> str:
        return open_text_examples(write_tar(tmp_path / "web.tar", [m for part in members for m in part])).identity

    image = png(picture(0))
    found = {
        identity(webdataset(0), webdataset(1)),
        identity(webdataset(1), webdataset(0)),
        identity([("a.png", image), ("a.txt", b"a cup")]),
        identity([("a.png", image), ("a.txt", b"a mug")]),
    }
    assert len(found) == 4
    assert identity(webdataset(0), webdataset(1)) in found


def test_other_sources_are_refused_with_what_would_do(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    for source in (tmp_path, tmp_path / "a.csv", tmp_path / "none.jsonl", tmp_path / "*.tar"):
        with pytest.raises(ValueError, match=r"name a \.jsonl file"):
            open_text_examples(source)
