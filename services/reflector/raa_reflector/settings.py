"""Settings of the reflector, on top of those every service has."""

from datetime import timedelta

from pydantic import Field

from raa_reflector.handlers import Patience
from raa_runtime.settings import ServiceSettings


class ReflectorSettings(ServiceSettings):
    """What the reflector needs to know. The variable of a field is `RAA_` and its name in capitals."""

    evidence_seconds: float = Field(30, gt=0, description="after a run's end, how long to wait for its plan or task")
    fetch_seconds: float = Field(60, gt=0, description="longest fetch of outputs that travelled by reference")
    max_output_bytes: int = Field(262_144, ge=1, description="largest output by reference the reflector looks at")
    case_linger_seconds: float = Field(
        86_400,
        ge=0,
        description="how long a task is remembered after its deadline, which stands still while an approval is open",
    )

    @property
    def patience(self) -> Patience:
        """Give the waiting times as durations."""
        return Patience(
            evidence=timedelta(seconds=self.evidence_seconds),
            fetch=timedelta(seconds=self.fetch_seconds),
            linger=timedelta(seconds=self.case_linger_seconds),
        )
