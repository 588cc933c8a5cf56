"""Reading on a Dask cluster: two worker processes on this machine."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

import mnist_digits as md

distributed = pytest.importorskip("distributed", reason="Dask is not installed")

pytestmark = pytest.mark.flaky(reruns=1)  # the timing of a scheduler and its workers is not ours

SAMPLES = [str(path) for path in sorted((ROOT / "samples").glob("*.png"))]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Start a scheduler and two workers, processes that know nothing of the script; return where they are."""
    folder = tmp_path_factory.mktemp("cluster")
    file, alone = folder / "scheduler.json", {"cwd": folder, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-P", "-m", "dask"]
    where = ["--scheduler-file", str(file), "--no-dashboard"]
    started = [subprocess.Popen([*dask, "scheduler", *where, "--host", "127.0.0.1", "--port", "0"], **alone)]
    started += [subprocess.Popen([*dask, "worker", *where, "--nworkers", "2", "--nthreads", "1"], **alone)]
    with distributed.Client(scheduler_file=str(file), timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
        yield client.scheduler.address
    for process in reversed(started):
        process.terminate()
        process.wait()


def test_a_cluster_reads_what_this_machine_does(cluster, capsys):
    command = [*SAMPLES, "no.png", "--json", "--model", str(md.BUNDLED)]
    assert md.main(command) == 1
    here = capsys.readouterr()
    assert md.main([*command, "--cluster", cluster]) == 1
    assert capsys.readouterr().out == here.out


def test_a_killed_worker_loses_nothing_and_doubles_nothing(cluster):
    paths, predict = SAMPLES * 40, md.load_network(md.BUNDLED)
    with distributed.Client(cluster) as client:
        workers = client.run(os.getpid)
    with md.open_cluster(cluster, predict) as pool:
        readings = md.read_pictures(paths, **pool)
        there = [next(readings)]
        os.kill(min(workers.values()), getattr(signal, "SIGKILL", signal.SIGTERM))
        there += readings
    here = md.read_pictures(paths, predict)
    for read, expected in zip(there, here, strict=True):
        assert (read.path, read.text, read.boxes) == (expected.path, expected.text, expected.boxes)
        assert np.array_equal(read.probs, expected.probs)


def test_where_there_is_no_cluster_the_way_to_one_is_told(capsys, monkeypatch):
    assert md.main([SAMPLES[0], "--no-plot", "--cluster", "not an address"]) == 1
    assert "start `dask scheduler`" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert md.main([SAMPLES[0], "--no-plot", "--cluster", "127.0.0.1:1"]) == 1
    assert "--cluster needs Dask" in capsys.readouterr().err
