"""The error tree, and the four verdicts the consumer policy knows.

RaaError
├── TransientError            deferred and tried again, then a dead letter
│   ├── DependencyUnavailable
│   ├── RateLimited
│   ├── DeadlineExceeded
│   └── NewerState
├── PermanentError            a dead letter at once
│   ├── Misconfigured
│   ├── PublishRefused
│   ├── ClaimGone
│   ├── AggregateTooLarge
│   ├── DeferralFull
│   └── TooOld
├── AlreadyHandled            acknowledged and counted
└── LeaseLost                 the work goes on elsewhere; its outcome is discarded here

Anything else is a defect: a small number of tries, a dead letter, an alert. Errors of the vocabulary itself
(`raa_schemas.envelope.InvalidEventError` and its kin) count as permanent.
"""

from pydantic import ValidationError

from raa_schemas.envelope import InvalidEventError


class RaaError(Exception):
    """Anything this project raises on purpose."""


class TransientError(RaaError):
    """It may work later. `retry_after` is in seconds, None lets the caller choose."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DependencyUnavailable(TransientError):
    """A store, the bus or a service does not answer."""


class RateLimited(TransientError):
    """The far side asks for a pause."""


class DeadlineExceeded(TransientError):
    """No answer in the time there was."""


class NewerState(TransientError):
    """A newer release wrote this aggregate; only a process of that release may decide on it."""


class PermanentError(RaaError):
    """Trying again cannot help."""


class Misconfigured(PermanentError):
    """A setting is missing or wrong; the message names it and says what to set."""


class PublishRefused(PermanentError):
    """The bus refuses this message for good: unknown topic, no permission, too large."""


class ClaimGone(PermanentError):
    """A referenced blob is no longer there."""


class AggregateTooLarge(PermanentError):
    """An aggregate would exceed 1 MB."""


class UnreadableState(PermanentError):
    """What is stored of an aggregate does not fit the model of its state."""


class DeferralFull(PermanentError):
    """An aggregate has as many deferred events as it may."""


class TooOld(PermanentError):
    """An event is older than the horizon, and what it is about is not there (any more)."""


class AlreadyHandled(RaaError):
    """This event was handled before."""


class LeaseLost(RaaError):
    """This process no longer owns the activity."""


def is_permanent(problem: BaseException) -> bool:
    """Say whether a failure is the record's own fault, so that trying again cannot help."""
    return isinstance(problem, PermanentError | InvalidEventError | ValidationError)
