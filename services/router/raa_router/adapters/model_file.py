"""Reads the configured models, from the settings or from the file they name."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from raa_router.domain.catalogue import ModelSpec
from raa_runtime.errors import Misconfigured

_MODELS: TypeAdapter[list[ModelSpec]] = TypeAdapter(list[ModelSpec])


def read_models(configured: list[ModelSpec] | Path) -> list[ModelSpec]:
    """Return the models in their order; raises Misconfigured naming the file and what is wrong in it."""
    if not isinstance(configured, Path):
        return configured
    try:
        return _MODELS.validate_json(configured.read_bytes())
    except OSError as problem:
        raise Misconfigured(f"RAA_MODELS names {configured}, which cannot be read: {problem.strerror}") from None
    except ValidationError as invalid:
        told = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}"
            for one in invalid.errors(include_input=False, include_url=False)[:5]
        )
        raise Misconfigured(f"{configured} is no list of models: {told}") from None
