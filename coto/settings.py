"""What all settings share: strict reading, kinds of numbers, one spelling as JSON."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0)]
Projection = Literal["query", "key", "value", "output", "gate", "up", "down"]


class Model(BaseModel):
    """Base of everything that is set: closed, strict, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def canonical(settings: Any) -> str:
    """JSON with sorted keys, no spaces and one spelling per number."""
    if isinstance(settings, BaseModel):
        settings = settings.model_dump(mode="json")
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
