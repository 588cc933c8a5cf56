"""Reading on a Dask cluster: two worker processes on this machine."""

import os
import signal

import pytest
from conftest import ROOT

import mnist_digits as md

distributed = pytest.importorskip("distributed", reason="Dask is not installed")

SAMPLES = [str(path) for path in sorted((ROOT / "samples").glob("*.png"))]


@pytest.fixture(scope="module")
def cluster():
    """Start a scheduler and two workers."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


def test_a_cluster_reads_what_this_machine_does(cluster, capsys):
    command = [*SAMPLES, "no.png", "--json", "--model", str(md.BUNDLED)]
    assert md.main(command) == 1
    here = capsys.readouterr()
    assert md.main([*command, "--cluster", cluster.scheduler_address]) == 1
    assert capsys.readouterr().out == here.out


def test_a_killed_worker_loses_nothing_and_doubles_nothing(cluster):
    paths, predict = SAMPLES * 40, md.load_network(md.BUNDLED)
    with distributed.Client(cluster.scheduler_address) as client:
        workers = client.run(os.getpid)
    with md.open_pool(cluster.scheduler_address, predict) as pool:
        readings = md.read_pictures(paths, **pool)
        there = [next(readings)]
        os.kill(min(workers.values()), getattr(signal, "SIGKILL", signal.SIGTERM))
        there += readings
    here = md.read_pictures(paths, predict)
    assert [md.to_record(reading) for reading in there] == [md.to_record(reading) for reading in here]


def test_where_there_is_no_cluster_the_way_to_one_is_told(capsys, monkeypatch):
    assert md.main([SAMPLES[0], "--no-plot", "--cluster", "not an address"]) == 1
    assert "start `dask scheduler`" in capsys.readouterr().err
    monkeypatch.setitem(md.sys.modules, "distributed", None)
    assert md.main([SAMPLES[0], "--no-plot", "--cluster", "127.0.0.1:1"]) == 1
    assert "--cluster needs Dask" in capsys.readouterr().err
