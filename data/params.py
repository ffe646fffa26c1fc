"""The one strict base class of everything a recipe can set."""

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    """Settings that a user gives: frozen, without unknown keys, silent conversions, NaN or infinities.

    Docstrings under fields are shown in error messages and in the reference of recipe keys.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
