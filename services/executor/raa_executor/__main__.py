"""Starts the executor as a process of its own."""

from raa_executor.app import build
from raa_executor.settings import ExecutorSettings
from raa_runtime.main import main

if __name__ == "__main__":
    main(build, ExecutorSettings)
