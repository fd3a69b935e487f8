"""What all parts of a spec have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from builder.spec import rules

Line = Annotated[str, AfterValidator(rules.line)]


class Section(BaseModel):
    """Part of a spec: unknown keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
