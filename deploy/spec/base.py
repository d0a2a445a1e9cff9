"""What every part of serving.yaml is made of."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=0, le=65535, description="TCP port on the host; 0 takes any free one")]
Count = Annotated[int, Meta(ge=1)]
Flag = bool | int | float | str


class Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of the file's parts."""
