"""Beam's own local job service with two things added that it lacks, so that two worker pools take part in one job.

`python -m tests.jobs.parallel_job_service --port_file FILE --pools HOST:PORT,HOST:PORT` runs until it is killed. The
port file gets two lines: the port of the job service, and that of a balancer for --environment_config, which starts
each worker in the next pool as a load balancer before several pools does. The stock service reads --direct_num_workers
in a function that jobs sent to it do not pass through, and so gives each job one worker.
"""

import argparse
import itertools
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from apache_beam.options.pipeline_options import DirectOptions
from apache_beam.portability.api import beam_fn_api_pb2_grpc, beam_job_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.local_job_service import BeamJob, LocalJobServicer


class ParallelJob(BeamJob):
    """Runs with as many workers as --direct_num_workers says."""

    def _invoke_runner(self):
        self.set_state(beam_job_api_pb2.JobState.RUNNING)
        runner = fn_runner.FnApiRunner(provision_info=self._provision_info)
        runner._num_workers = int(self.pipeline_options().view_as(DirectOptions).direct_num_workers)
        return runner.run_via_runner_api(self._pipeline_proto, self.pipeline_options())


class PoolBalancer(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Hands each request for a worker to the next pool in turn."""

    def __init__(self, addresses: list[str]):
        stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub
        self._next_pool = itertools.cycle([stub(grpc.insecure_channel(address)) for address in addresses])

    def StartWorker(self, request, context):
        return next(self._next_pool).StartWorker(request)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port_file", type=Path, required=True)
    parser.add_argument("--pools", required=True)
    options = parser.parse_args(argv)
    balancer = grpc.server(ThreadPoolExecutor(max_workers=2))
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(
        PoolBalancer(options.pools.split(",")), balancer
    )
    balancer_port = balancer.add_insecure_port("localhost:0")
    balancer.start()
    job_port = LocalJobServicer(beam_job_type=ParallelJob).start_grpc_server()
    written = options.port_file.with_suffix(".part")
    written.write_text(f"{job_port}\n{balancer_port}\n")
    written.rename(options.port_file)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    sys.exit(main())
