"""A name for a thing that has none of its own: the same for equal content, on any day."""

import hashlib
import uuid
from typing import Any

from starsmith.core.statement import canonical


def of_content(value: Any) -> str:
    """A UUID made from all that a value says."""
    digest = hashlib.sha256(canonical(value)).hexdigest()
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"starsmith:paper:{digest}"))
