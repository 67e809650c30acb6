"""A weight data set pushed with DVC and pulled again, to a folder and to a server of the S3 protocol."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from weightspace.record import read_record

PARAMS = """
root: .
images: {}
zoo: {}
imports:
  foreign: {format: folder, path: foreign, mixed: refuse, images: ., proof_members: 0, table: null, wiring: chain}
weights:
  w:
    zoo: foreign
    epochs: {kind: range, first: 0, last: null, every: 1}
    filters: []
    max_abs_weight: null
    split: {kind: random, train: 0.6, val: 0.2, test: 0.2, seed: 0}
    canonical: {scale: false, orient: false}
    alignment: {kind: weight_matching, reference: {kind: first}, seed: 0, max_sweeps: 2}
    standardization: {kind: layer}
hyperrep: {}
embeddings: {}
probes: {}
samples: {}
transfer: {}
report: {}
"""
WAIT_S = 60
"""Only to end a test that hangs; a busy machine is slow."""


@pytest.fixture
def study(checkout, write_foreign):
    """A study with a weight data set that DVC made."""
    checkout.write("params.yaml", PARAMS)
    write_foreign(checkout.root / "foreign", (4, 4))
    (checkout.root / "data/images").mkdir(parents=True)
    result = checkout.dvc("repro")
    assert result.returncode == 0, result.stderr
    return checkout


@pytest.fixture
def bucket(monkeypatch, study):
    """An empty bucket of a server of our own; returns what tells DVC of it."""
    for name, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        make_bucket(f"{url}/zoos", server)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=WAIT_S)


def make_bucket(url, server):
    """Make a bucket once the server answers."""
    end = time.monotonic() + WAIT_S
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="PUT")) as answer:
                assert answer.status == 200
                return
        except urllib.error.URLError:
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < end, "the server did not answer"
            time.sleep(0.1)


def run(study, *arguments):
    result = study.dvc(*arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def share(study, remote):
    """Push all, lose it here, and pull it; the data set is whole and as it was."""
    before = read_record(study.root / "data/weights/w")
    run(study, "push", "--remote", remote)
    shutil.rmtree(study.root / ".dvc/cache")
    shutil.rmtree(study.root / "data")
    run(study, "pull", "--remote", remote)
    assert read_record(study.root / "data/weights/w") == before
    told = study.run("-m", "weightspace.cli", "info", "data/weights/w")
    for text in ("split      train 8, val 2, test 2 members", "aligned    weight_matching", "intact     yes"):
        assert text in told.stdout


@pytest.mark.server
def test_data_set_comes_back_from_a_folder_and_from_s3(study, bucket, tmp_path):
    run(study, "remote", "add", "shelf", str(tmp_path / "shelf"))
    run(study, "remote", "add", "bucket", "s3://zoos/lab")
    run(study, "remote", "modify", "bucket", "endpointurl", bucket)
    for remote in ("shelf", "bucket"):
        share(study, remote)
    (study.root / "data/weights/w/part-00000.parquet").unlink()
    run(study, "pull", "--remote", "bucket", "weights@w")
    assert read_record(study.root / "data/weights/w").stage == "weights"
