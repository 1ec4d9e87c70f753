"""The shard job with input and output in a bucket: an S3 endpoint started by the test, workers in several processes."""

from collections.abc import Iterator

import pytest

from oxe_pipeline.stream.format import MANIFEST
from oxe_pipeline.stream.output_folder import OutputFolder
from tests.conftest import shard
from tests.jobs.conftest import content

BUCKET = "streams"
WORKERS = ("--shard_mb", "1", "--direct_running_mode", "multi_processing", "--direct_num_workers", "2")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Address of an empty bucket that this process and its children reach through AWS's own environment variables."""
    pytest.importorskip("s3fs", reason="no s3fs: pip install s3fs")
    moto_server = pytest.importorskip("moto.server", reason="no S3 endpoint to start: pip install 'moto[server]'")
    import s3fs

    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir(BUCKET)
        yield f"s3://{BUCKET}"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_two_worker_processes_make_the_same_stream_out_of_a_bucket_and_in_it(rlds, bucket, tmp_path):
    import s3fs

    shard(rlds, tmp_path / "local", "--shard_mb", "1", "--direct_running_mode", "in_memory")
    s3fs.S3FileSystem().put(str(rlds), f"{BUCKET}/rlds", recursive=True)
    made = shard(f"{bucket}/rlds", f"{bucket}/stream", *WORKERS)
    assert "24 in = 24 out" in made.stdout
    s3fs.S3FileSystem().get(f"{BUCKET}/stream", str(tmp_path / "copy"), recursive=True)
    assert content(tmp_path / "copy") == content(tmp_path / "local")
    # The job is the same one wherever the input lies.
    assert "already complete" in shard(rlds, f"{bucket}/stream", *WORKERS).stdout


def test_what_another_process_puts_into_the_bucket_is_seen_at_once(bucket):
    import s3fs

    ours = OutputFolder(f"{bucket}/listed")
    ours.write("units/00000.json", b"{}")
    assert ours.names("units") == {"units/00000.json"} and ours.size(MANIFEST) is None
    elsewhere = s3fs.S3FileSystem(skip_instance_cache=True)
    elsewhere.pipe_file(f"{BUCKET}/listed/units/00001.json", b"{}")
    elsewhere.pipe_file(f"{BUCKET}/listed/{MANIFEST}", b"{}")
    assert ours.names("units") == {"units/00000.json", "units/00001.json"}
    assert ours.size(MANIFEST) == 2


def test_a_bucket_that_is_not_there_is_one_line(rlds, bucket):
    done = shard(rlds, "s3://no-such-bucket/stream", *WORKERS, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "no-such-bucket" in done.stderr
