"""Runs the planner as a process of its own: `python -m raa_planner`."""

from raa_planner.app import build
from raa_planner.settings import PlannerSettings
from raa_runtime.main import main

if __name__ == "__main__":
    main(build, PlannerSettings)
