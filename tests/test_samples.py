"""`python -m oxe_pipeline.samples`, as typed, against what loader and trainer really took."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from oxe_pipeline.loader.loader import make_loader
from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.samples import main
from oxe_pipeline.train import main as train_main
from tests.synthetic import make_episode, make_stream, write_stream

ROOT = Path(__file__).parents[1]
BATCH, STEPS = 6, 5


@pytest.fixture(scope="module")
def mix(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    make_stream(folder / "alpha", "alpha", episodes=6)
    make_stream(folder / "beta", "beta", episodes=3, cameras=("primary",))
    path = folder / "mix.yaml"
    path.write_text("seed: 5\ndatasets:\n- {name: alpha, path: alpha, weight: 2}\n- {name: beta, path: beta}\n")
    return path


def run_json(capsys, *words) -> dict:
    assert main([str(word) for word in words] + ["--json"]) == 0
    return json.loads(capsys.readouterr().out)


def as_places(samples: list[dict]) -> list[tuple]:
    return [(row["g"], row["dataset"], row["episode_id"], row["step"], row["instruction"]) for row in samples]


def delivered(mix: Path, step: int, **options) -> list[tuple]:
    """The same of the batch that the loader really makes."""
    mixture = load_mixture(mix)
    with make_loader(mixture, start_step=step, **options) as loader:
        batch = next(loader)
    datasets = [mixture.datasets[number] for number in batch["dataset"].tolist()]
    ids = [d.stream.episodes.episode_id(e) for d, e in zip(datasets, batch["episode"].tolist(), strict=True)]
    names = [dataset.name for dataset in datasets]
    return list(zip(batch["g"].tolist(), names, ids, batch["step"].tolist(), batch["instruction"], strict=True))


@pytest.mark.parametrize("step", [0, 41_233])
def test_a_step_lists_the_samples_that_each_rank_gets(mix, capsys, step):
    asked = ("--mixture", mix, "--step", step, "--batch-size", 10)
    found = run_json(capsys, *asked)
    assert as_places(found["samples"]) == delivered(mix, step, batch_size=10)
    assert [row["g"] for row in found["samples"]] == list(range(step * 10, step * 10 + 10))
    for rank in range(3):
        part = run_json(capsys, *asked, "--rank", rank, "--world-size", 3)["samples"]
        assert as_places(part) == delivered(mix, step, batch_size=10, rank=rank, world_size=3)


def test_sample_numbers_may_be_asked_for_directly(mix, capsys):
    of_step = run_json(capsys, "--mixture", mix, "--step", 3, "--batch-size", 8)["samples"]
    assert run_json(capsys, "--mixture", mix, "--g", 24, "--count", 8)["samples"] == of_step
    assert run_json(capsys, "--mixture", mix, "--g", 26)["samples"] == of_step[2:3]


def test_seed_and_instruction_are_as_the_loader_was_told(mix, capsys):
    asked = ("--mixture", mix, "--step", 9, "--batch-size", 16)
    found = run_json(capsys, *asked, "--seed", 11, "--instruction", "main")
    assert as_places(found["samples"]) == delivered(mix, 9, batch_size=16, seed=11, instruction="main")
    assert found["seed"] == 11 and found["samples"] != run_json(capsys, *asked)["samples"]


@pytest.fixture(scope="module")
def run(mix, tmp_path_factory) -> Path:
    """A short training run, with its weights changed halfway by resuming on another mixture file."""
    out = tmp_path_factory.mktemp("runs") / "run"
    later = mix.with_name("later.yaml")
    later.write_text(mix.read_text().replace("weight: 2", "weight: 0.1"))
    sizes = ("--preset", "nano", "--batch-size", BATCH, "--chunk", 2, "--evaluate-every", 0)
    train(out, "--mixture", mix, *sizes, "--steps", STEPS)
    train(out, "--mixture", later, "--resume", "--steps", 4 * STEPS)
    return out


def train(out: Path, *words: object) -> None:
    assert train_main([str(word) for word in ("--out", out, "--device", "cpu", *words)]) == 0


def test_a_checkpoint_says_which_samples_every_step_of_its_run_took(run, capsys):
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    records = [record for record in records if "samples" in record]
    assert len(records) == 4 * STEPS
    for record in records:
        samples = run_json(capsys, "--checkpoint", run, "--step", record["step"])["samples"]
        assert [row["g"] for row in samples] == list(range(*record["samples"]))
        # The losses were averaged over the data sets that were really in the batch, before and after the new weights.
        assert {row["dataset"] for row in samples} == set(record["loss_per_dataset"])


def test_the_first_step_of_a_run_is_the_batch_that_the_trainer_wrote_down(run, capsys):
    samples = run_json(capsys, "--checkpoint", run, "--step", 1)["samples"]
    text = (run / "first_batch.txt").read_text()
    lines = [line.split("  ") for line in text.split("samples:")[1].split("\n\n")[0].splitlines()[1:]]
    written = [(words[1], words[2], int(words[3])) for words in lines]
    assert [(row["dataset"], row["episode_id"], row["step"]) for row in samples] == written


def test_it_says_how_a_run_counts_and_whether_it_came_so_far(run, capsys):
    for step, to_come in ((4 * STEPS, False), (4 * STEPS + 1, True)):
        assert main(["--checkpoint", str(run), "--step", str(step)]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert f"step {step} (counted from 1, as in metrics.jsonl) of {run}" in printed
        assert (f"to come: it has done {4 * STEPS} steps" in printed) == to_come


def test_a_checkpoint_whose_mixture_file_moved_is_given_another(run, mix, tmp_path, capsys):
    moved = mix.with_name("moved.yaml")
    moved.write_text(mix.with_name("later.yaml").read_text())
    from_record = run_json(capsys, "--checkpoint", run, "--step", 2)["samples"]
    assert run_json(capsys, "--checkpoint", run, "--mixture", moved, "--step", 2)["samples"] == from_record


def test_the_table_can_be_read_wide_and_narrow(mix, capsys, monkeypatch):
    assert main(["--mixture", str(mix), "--step", "2", "--batch-size", "4"]) == 0
    wide = capsys.readouterr().out
    row = run_json(capsys, "--mixture", mix, "--g", 8)["samples"][0]
    assert "seed 5, split train: step 2 (counted from 0), batch size 4: samples 8 to 11" in wide
    for text in (row["episode_id"], row["instruction"], row["source_path"], f"{row['step']} of {row['num_steps']}"):
        assert text in wide
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["--mixture", str(mix), "--g", "8"]) == 0
    narrow = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, narrow.splitlines())) <= 80 < max(map(len, wide.splitlines()))
    for text in (row["episode_id"], row["instruction"], row["source_path"], f"step {row['step']} of", "epoch 0"):
        assert text in narrow


def test_texts_of_the_data_are_shown_as_they_are(tmp_path, capsys):
    episode = make_episode(0, dataset="odd", cameras=())
    episode.instruction, episode.source_path = "push [red] :smile: block", "demo[/red]"
    write_stream(tmp_path / "odd", [episode])
    (tmp_path / "mix.yaml").write_text("datasets: [{name: odd, path: odd}]")
    assert main(["--mixture", str(tmp_path / "mix.yaml"), "--g", "0"]) == 0
    printed = capsys.readouterr().out
    assert "push [red] :smile: block" in printed and "demo[/red]" in printed


def test_a_picture_shows_as_many_samples_as_asked_and_says_so(mix, tmp_path, capsys):
    picture = tmp_path / "step.png"
    asked = ["--mixture", str(mix), "--step", "1", "--batch-size", "9", "--images", str(picture)]
    assert main([*asked, "--most", "2"]) == 0
    assert f"wrote {picture}; the first 2 of 9, --most N draws more" in " ".join(capsys.readouterr().out.split())
    two = Image.open(picture).size
    assert main(asked) == 0
    assert "--most" not in capsys.readouterr().out and Image.open(picture).size[1] > two[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--step 1 --batch-size 4", "say whose samples"),
        ("--mixture MIX", "say which samples"),
        ("--mixture MIX --g 1 --step 1", "one of the two"),
        ("--mixture MIX --step 1", "needs the --batch-size"),
        ("--mixture MIX --step -1 --batch-size 4", "--step must be 0 or more, is -1"),
        ("--mixture MIX --step 1 --batch-size 0", "batch_size must be a whole number of 1 or more, is 0"),
        ("--mixture MIX --step 1 --batch-size 4 --rank 1", "--rank and --world-size go together"),
        ("--mixture MIX --step 1 --batch-size 4 --rank 4 --world-size 4", "rank must be from 0 to world_size-1 = 3"),
        ("--mixture MIX --step 99999999999999999 --batch-size 256", "sample numbers end at 2^62"),
        ("--mixture MIX --g 4 --count 99999999999", "more than the 1,048,576 that can be listed at once"),
        ("--mixture MIX --g 4 --rank 0 --world-size 2", "--rank is part of a step"),
        ("--mixture MIX --step 4 --batch-size 4 --count 2", "--count goes with --g"),
        ("--mixture MIX --g 4 --count 0", "--count must be 1 or more, is 0"),
        ("--mixture MIX --g 4 --images sheet.gif", "must end in .png, .jpg, .jpeg"),
        ("--mixture nowhere.yaml --g 4", "nowhere.yaml: cannot be read"),
        ("--checkpoint nowhere --step 4", "nowhere: no checkpoint in checkpoints/"),
        ("--checkpoint nowhere --step 0", "--step must be 1 or more, is 0"),
        ("--checkpoint nowhere --step 4 --batch-size 8", "--batch-size is settled by the run in nowhere"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(mix, capsys, words, message):
    assert main([str(mix) if word == "MIX" else word for word in words.split()]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and message in printed.err
    assert not printed.out


def test_it_starts_and_draws_without_torch(mix, run, tmp_path):
    code = (
        "import sys; from oxe_pipeline.samples import main\n"
        "assert not {'rich', 'PIL.ImageDraw'} & set(sys.modules)\n"
        f"assert main(['--checkpoint', {str(run)!r}, '--step', '3', '--images', {str(tmp_path / 's.png')!r}]) == 0\n"
        "print({'torch', 'safetensors', 'tensorflow', 'scipy', 'apache_beam'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("set()\n"), done.stderr
