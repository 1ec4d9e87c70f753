import json

import pytest
import yaml

from oxe_pipeline.labels import main
from oxe_pipeline.language import LanguageReport, clean_labels
from oxe_pipeline.stream.format import MANIFEST
from schemas.spec import Language
from tests.conftest import ROOT

LINES = ["Open the drawer.", "open the drawer", "do something", "", "wipe the table", "put it\tdown"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("\r\n".join(LINES).encode() + b"\r\ncaf\xe9 door\n")
    return path


def run_json(capsys, *arguments) -> list[dict]:
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_text_file_is_reported_line_by_line_as_episodes(text, capsys):
    (found,) = run_json(capsys, "--text", text)
    assert (found["dataset"], found["episodes"], found["with_instruction"]) == ("labels.txt", 7, 5)
    assert (found["with_placeholder"], found["unique_instructions"]) == (1, 4)
    assert found["flags"] == {
        "casing": 1, "empty": 1, "final_stop": 1, "invalid_utf8": 1, "placeholder": 1, "whitespace": 1,
    }  # fmt: skip
    assert found["samples"]["invalid_utf8"] == [{"raw": "café door", "instruction": "café door"}]
    assert main(["--text", str(text)]) == 0
    table = capsys.readouterr().out
    assert "'Open the drawer.' -> 'open the drawer'" in table and "with a placeholder      1 (14.3%)" in table


def test_a_utf16_file_is_read_as_its_lines(tmp_path, capsys):
    (tmp_path / "labels.txt").write_bytes("open it\nclose it\n".encode("utf-16"))
    (found,) = run_json(capsys, "--text", tmp_path / "labels.txt")
    assert (found["episodes"], found["with_instruction"], found["flags"]) == (2, 2, {})


def test_a_specs_placeholders_and_a_paraphrase_file_can_be_tried_before_building(text, tmp_path, capsys):
    spec = tmp_path / "lab.yaml"
    content = yaml.safe_load((ROOT / "schemas" / "datasets" / "libero.yaml").read_text())
    spec.write_text(yaml.safe_dump({**content, "language": {"placeholders": ["Wipe the table"]}}))
    (tmp_path / "p.csv").write_text("open the drawer,pull the drawer open\nfly,soar\n")
    (found,) = run_json(capsys, "--text", text, "--paraphrases", tmp_path / "p.csv", "--spec", spec)
    assert found["paraphrased"] == {"fly": 0, "open the drawer": 2}
    assert found["with_alternatives"] == 2
    assert (found["with_placeholder"], found["flags"]["spec_placeholder"]) == (2, 1)


def test_a_streams_report_is_the_one_in_its_manifest(tmp_path, capsys, monkeypatch):
    report = LanguageReport("some_lab")
    report.update(clean_labels(["Open it."], Language()))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).write_text(json.dumps(manifest(report.to_dict())))
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out == f"some_lab\n{report.render()}\nsome_lab\n{report.render()}"


def manifest(language: dict) -> dict:
    """The least that a manifest may say."""
    counts = {"episodes_in": 1, "episodes_out": 1, "steps_out": 1, "split_episodes": {}, "split_steps": {}}
    return {
        "format": 1, "dataset": "some_lab", "code_version": "0", "spec": {}, "source": {}, "options": {}, "lab": "",
        "robot": "", "control_hz": 5.0, "action_slots": [], "state_slots": [], "action_raw_width": 0,
        "state_raw_width": 0, "cameras": {}, "counts": counts, "quarantine": [], "statistics": {},
        "language": language, "files": {}, "shards": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "say whose labels"),
        (["nowhere", "--text", "x.txt"], "one of the two"),
        (["nowhere"], "no stream"),
        (["nowhere", "--paraphrases", "p.csv"], "--paraphrases goes with --text"),
        (["--text", "absent.txt"], "No such file"),
        (["--text", __file__, "--spec", "nosuch"], "nosuch"),
        (["--text", __file__, "--paraphrases", __file__], "not a paraphrase file"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, told, capsys):
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("error: ") and error.count("\n") == 1 and told in error
