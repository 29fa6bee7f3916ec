"""What all parts of the configuration share: strict reading, and kinds of numbers."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0)]


class Model(BaseModel):
    """Base of all parts of the configuration: closed, strict, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
