"""Starts the reflector as a process of its own."""

from raa_reflector.app import build
from raa_reflector.settings import ReflectorSettings
from raa_runtime.main import main

if __name__ == "__main__":
    main(build, ReflectorSettings)
