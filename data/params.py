"""Strict base class of all recipe sections, and marks for keys that a resumed run may change."""

from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

Mark: TypeAlias = Literal["may change", "content"]
AT_RESUME: Final = "at_resume"
MAY_CHANGE: Final[dict[str, Any]] = {AT_RESUME: "may change"}
"""`json_schema_extra` of a field that a resumed run may change: hardware, time limits, labels.

Not for anything that decides which tokens are sampled or what is computed from them; the order of floating-
point sums may differ. A field without a mark must stay as it was.
"""
CONTENT: Final[dict[str, Any]] = {AT_RESUME: "content"}
"""`json_schema_extra` of a path: a resumed run must find the same content, wherever it lies."""


class Params(BaseModel):
    """Settings that a user gives: frozen, without unknown keys, silent conversions, NaN or infinities.

    Docstrings under fields are shown in error messages and in the reference of recipe keys.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
