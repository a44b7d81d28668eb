"""What a client can be told, beside what the runtime's errors say.

PermanentError (raa_runtime.errors)
├── InputUnusable
├── TaskUnknown
└── NothingToDecide
"""

from raa_runtime.errors import PermanentError


class InputUnusable(PermanentError):
    """A file cannot be attached to a task."""


class TaskUnknown(PermanentError):
    """No event names this task."""


class NothingToDecide(PermanentError):
    """No approval of this step waits for a person."""
