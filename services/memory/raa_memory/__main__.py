"""Starts memory as a process of its own: `python -m raa_memory`."""

from raa_memory.app import build
from raa_memory.settings import MemorySettings
from raa_runtime.main import main

if __name__ == "__main__":
    main(build, MemorySettings)
