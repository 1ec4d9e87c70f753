import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.language import ParaphraseError, Paraphrases, clean_labels, load_paraphrases
from schemas.spec import Language

CONTENT = {
    "Open the drawer.": ["Pull the drawer  open.", "open the DRAWER", "slide the drawer open", "pull the drawer open"],
    "wipe the table": ["clean the table"],
}
CLEANED = {"open the drawer": ("pull the drawer open", "slide the drawer open"), "wipe the table": ("clean the table",)}


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def labels(*raw: str):
    return clean_labels(raw, Language())


@pytest.fixture
def paraphrases(tmp_path) -> Paraphrases:
    return load_paraphrases(written(tmp_path, "p.yaml", yaml.safe_dump(CONTENT)))


def test_every_form_of_the_file_gives_the_same_cleaned_entries(tmp_path):
    rows = "Instruction,paraphrase\n" + "".join(f'"{key}",{text}\n' for key in CONTENT for text in CONTENT[key])
    files = {"p.yaml": yaml.safe_dump(CONTENT), "p.json": json.dumps(CONTENT), "p.csv": rows, "b.csv": "\ufeff" + rows}
    found = [load_paraphrases(written(tmp_path, name, text)) for name, text in files.items()]
    assert [dict(one.entries) for one in found] == [CLEANED] * 4
    assert len({one.hash for one in found}) == 4


def test_paraphrases_stand_behind_an_episodes_own_alternatives_once_each_with_a_flag(paraphrases):
    added, matched = paraphrases.add_to(labels("Open the drawer", "Slide the drawer open", "wipe the table"))
    assert added.instruction == "open the drawer"
    assert added.alternatives == (
        "slide the drawer open", "wipe the table", "pull the drawer open", "clean the table",
    )  # fmt: skip
    assert matched == ("open the drawer", "wipe the table")
    assert added.flags == ("casing", "paraphrased")
    assert added.raw == "Open the drawer\nSlide the drawer open\nwipe the table"


def test_what_matches_nothing_or_has_no_instruction_stays_as_it_is(paraphrases):
    for own in (labels("close the drawer"), labels("do something"), labels()):
        assert paraphrases.add_to(own) == (own, ())


@given(raw=st.lists(st.sampled_from([*CONTENT, *CLEANED, "clean the table", "go", "OPEN THE DRAWER"]), max_size=4))
def test_adding_twice_adds_nothing_and_no_sentence_stands_twice(raw):
    paraphrases = Paraphrases(hash="", entries=CLEANED)
    once, _ = paraphrases.add_to(labels(*raw))
    sentences = [once.instruction, *once.alternatives]
    assert len(set(sentences)) == len(sentences)
    own = labels(*raw)
    assert tuple(sentences[: 1 + len(own.alternatives)]) == (own.instruction, *own.alternatives)
    matched = [CLEANED[text] for text in (own.instruction, *own.alternatives) if text in CLEANED]
    assert set(sentences) == {own.instruction, *own.alternatives, *(text for texts in matched for text in texts)}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("p.txt", "a: [b]", "not a paraphrase file"),
        ("p.yaml", "", "must be a mapping"),
        ("p.yaml", "{}", "holds no paraphrase"),
        ("p.yaml", "open it: pull it", "must be a list"),
        ("p.yaml", "yes: [go on]", "True is not text; quote it"),
        ("p.yaml", "open it: [3]", "3 is not text"),
        ("p.yaml", "open it: [do something]", "'do something' is no instruction (placeholder)"),
        ("p.yaml", 'open it: ["pull it\\npush it"]', "2 sentences"),
        ("p.yaml", "open it: [", "expected the node content"),
        ("p.yaml", "open it: [!!python/object/apply:os.getcwd []]", "could not determine a constructor"),
        ("p.json", "[" * 100_000, "recursion"),
        ("p.json", b"\xff\xfe", "can't decode"),
        ("p.csv", "open the drawer,pull it, then go\n", "row 1 has 3 columns"),
        ("p.csv", 'open it,"pull it', "unexpected end of data"),
        ("p.json", b" " * 8_000_001, "8,000,001 bytes, more than 8,000,000"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_fault_in_one_line(tmp_path, name, text, told):
    path = written(tmp_path, name, text)
    with pytest.raises(ParaphraseError) as fault:
        load_paraphrases(path)
    assert str(fault.value).startswith(f"{path}: ") and told in str(fault.value)
    assert "\n" not in str(fault.value) and len(str(fault.value)) < 500
