"""What a process pays for adapters it does not use: nothing."""

import subprocess
import sys

import pytest

from tests.source_tree import ROOT

CLIENTS = {"aiokafka", "faststream", "obstore", "pymongo", "redis"}


@pytest.mark.parametrize(
    "module",
    ["raa_runtime.platform", "raa_runtime.blobs", "raa_runtime.kv", "raa_runtime.bus.port", "raa_runtime.bus.embedded"],
)
def test_a_module_that_needs_no_server_loads_no_client_library(module: str):
    assert not loaded_by(module) & CLIENTS


def test_a_plain_kafka_connection_does_not_load_faststream():
    assert loaded_by("raa_runtime.bus.kafka") & CLIENTS == {"aiokafka"}


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(done.stdout.split())
