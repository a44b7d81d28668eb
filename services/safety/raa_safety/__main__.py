"""Starts safety as a process of its own: `python -m raa_safety`."""

from raa_runtime.main import main
from raa_safety.app import build
from raa_safety.settings import SafetySettings

if __name__ == "__main__":
    main(build, SafetySettings)
