"""Shows the value of a record to a person, without its secrets."""

import json

from raa_runtime.masking import masked, masked_text


def readable(raw: bytes | None, *, most_characters: int) -> str:
    """Show a record's value: JSON indented, other text as it is, anything else as the head of its bytes."""
    if raw is None:
        return "(no value)"
    try:
        text = raw.decode()
        text = json.dumps(masked(json.loads(text)), indent=2, ensure_ascii=False)
    except UnicodeDecodeError:
        return f"{len(raw)} bytes, no text: {raw[:64].hex(' ')}{' …' if len(raw) > 64 else ''}"
    except (ValueError, RecursionError):
        text = masked_text(text)
    if len(text) > most_characters:
        return f"{text[:most_characters]}\n… {len(text) - most_characters} more characters; --json shows all"
    return text or "(empty)"
