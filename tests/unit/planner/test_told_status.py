"""What task.status says, from one status to the next."""

from raa_schemas.task import TaskStatus
from tests.unit.planner.way import Way


def test_the_attempt_a_status_names_does_not_go_back_when_planning_ends_the_task():
    way = Way().to_planning().planned(cannot="the goal asks for a forecast")
    attempts = [status.attempt for status in way.all_of(TaskStatus)]
    assert attempts == sorted(attempts)
    assert attempts[-1] == 1
