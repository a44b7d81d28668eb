"""Starts the router as a process of its own: `python -m raa_router`."""

from raa_router.app import build
from raa_router.settings import RouterSettings
from raa_runtime.main import main

if __name__ == "__main__":
    main(build, RouterSettings)
