"""A cluster of two Ray nodes writes the files of one process; needs the extra `ray` and about a minute."""

import os
import shutil
import subprocess
import sys

import pytest
from corpora import OPTIONS, SCRIPTS, digests, tokenize

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture
def cluster_address():
    """Of a cluster of two nodes with one CPU each, on this machine."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(**node)
    cluster.wait_for_nodes()
    yield cluster.address
    cluster.shutdown()


def test_two_nodes_of_ray_give_the_files_of_one_process(cluster_address, corpus_file, tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "codec")
    tokenize(corpus_file, tiny_model, tmp_path / "one")
    command = [sys.executable, SCRIPTS / "tokenize_on_ray.py", corpus_file.name, "--output", "two", "--workers", 2]
    command += ["--licence", "cc0-1.0", "--source", "a test", "--codec", "codec"]
    command += ["--max_hours", OPTIONS.max_hours, "--rows_per_shard", OPTIONS.rows_per_shard]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS.parent), "RAY_ADDRESS": cluster_address}
    shutil.copytree(tmp_path / "one", tmp_path / "two")  # a run that was stopped after one shard
    for path in [*(tmp_path / "two/data").iterdir(), *(tmp_path / "two/rejects").iterdir(), tmp_path / "two/README.md"]:
        if not path.name.startswith("tokens-00000"):
            path.unlink()
    done = subprocess.run(list(map(str, command)), env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "20 rows = 12 with tokens + 8 rejected" in done.stdout
    assert done.stderr.rstrip().splitlines()[-1].startswith("shards: 100%")
    assert digests(tmp_path / "two") == digests(tmp_path / "one")
