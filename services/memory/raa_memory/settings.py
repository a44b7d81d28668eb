"""What memory needs to know beside the settings of every service."""

from pydantic import Field

from raa_runtime.settings import ServiceSettings


class MemorySettings(ServiceSettings):
    """Settings of the memory service."""

    recall_patience_seconds: float = Field(0.25, ge=0, le=10, description="how long a recall waits for what it names")
    recall_refresh_seconds: float = Field(1, ge=0, description="how old other instances' lessons may become")
