"""--paraphrases as typed: what the stream then says, and that the file's content is part of the job."""

import pytest

from jobs.shard import main
from oxe_pipeline.stream.reader import open_stream
from tests.jobs.conftest import EPISODES, episodes


def run(rlds, out, *options) -> int:
    words = ["--rlds", rlds, "--out", out, "--direct_running_mode", "in_memory", *options]
    return main([str(word) for word in words])


def test_paraphrases_become_alternatives_and_the_manifest_tells_which_entries_matched(rlds, tmp_path, capsys):
    own = episodes()[0].instruction
    said = sum(own in (e.instruction, *e.alternatives) for e in episodes())
    file = tmp_path / "p.csv"
    file.write_text(f"{own.capitalize()}.,do it this way\n{own},and that way\nfly away,soar\n")
    assert run(rlds, tmp_path / "out", "--paraphrases", file) == 0
    assert "1 of 2 entries match; 1 match nothing, first 'fly away'" in capsys.readouterr().out
    stream = open_stream(tmp_path / "out")
    assert stream.manifest.options["paraphrases"]["entries"] == 2
    assert stream.manifest.language["paraphrased"] == {"fly away": 0, own: said}
    assert stream.manifest.language["flags"]["paraphrased"] == said
    by_id = {e.episode_id: e for e in episodes()}
    for number in range(EPISODES):
        original = by_id[stream.episodes.episode_id(number)]
        sentences = [original.instruction, *original.alternatives] if original.instruction else []
        added = ["do it this way", "and that way"] if own in sentences else []
        ids = stream.episodes.instruction_ids(number)
        assert [stream.instructions[i] for i in ids] == [*sentences, *added]

    again = ("--paraphrases", file)
    assert run(rlds, tmp_path / "out", *again) == 0
    assert "nothing to do" in capsys.readouterr().out
    file.write_text(f"{own},another way\n")
    assert run(rlds, tmp_path / "out", *again) == 2
    assert "made with paraphrases" in capsys.readouterr().err
    assert run(rlds, tmp_path / "out") == 2
    assert "made with paraphrases" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "a,b,c\n"])
def test_a_bad_file_stops_the_job_before_it_begins(rlds, tmp_path, capsys, content):
    if content:
        (tmp_path / "p.csv").write_text(content)
    assert run(rlds, tmp_path / "out", "--paraphrases", tmp_path / "p.csv") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "p.csv" in error
    assert not (tmp_path / "out").exists()
