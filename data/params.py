"""The strictness that all user-set parameters share."""

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    """Frozen; no unknown keys, silent conversions or NaN; field docstrings are the help an author sees."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
