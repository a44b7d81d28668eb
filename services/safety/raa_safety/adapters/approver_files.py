"""The keys of the people who may decide: from the settings, and from files that are read again when they change."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from raa_runtime.telemetry import Logger


class ApproverKey(BaseModel):
    """One person's key as a file holds it."""

    key_id: str
    public_key: str


_KEYS: TypeAdapter[ApproverKey | list[ApproverKey]] = TypeAdapter(ApproverKey | list[ApproverKey])


class FileApproverKeys:
    """Known keys: fixed ones, then those of each file. A file may come, change and go while safety runs.

    Looking costs one `stat` per file. A file that cannot be read counts as empty, so that nobody gains a right by it.
    """

    def __init__(self, fixed: Mapping[str, str], files: Sequence[Path], log: Logger) -> None:
        self._fixed = dict(fixed)
        self._files = tuple(files)
        self._log = log
        self._read: dict[Path, tuple[tuple[int, int] | None, dict[str, str]]] = {}

    def known(self) -> Mapping[str, str]:
        keys = dict(self._fixed)
        for file in self._files:
            for key_id, public_key in self._keys_of(file).items():
                keys.setdefault(key_id, public_key)  # a file never replaces a key of the settings
        return keys

    def _keys_of(self, file: Path) -> dict[str, str]:
        stamp = _stamp(file)
        if file not in self._read or self._read[file][0] != stamp:
            self._read[file] = (stamp, self._parse(file) if stamp else {})
        return self._read[file][1]

    def _parse(self, file: Path) -> dict[str, str]:
        try:
            keys = _KEYS.validate_json(file.read_bytes())
        except (OSError, ValidationError) as problem:
            self._log.warning(
                "approver_keys_unreadable",
                file=str(file),
                reason=str(problem)[:300],
                hint='write {"key_id": "…", "public_key": "<base64>"} or a list of these',
            )
            return {}
        return {key.key_id: key.public_key for key in (keys if isinstance(keys, list) else [keys])}


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
