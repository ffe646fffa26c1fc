"""Type of a recipe section whose `name` picks one of a registry's classes.

    ProtocolConfig = Annotated[ProtocolParams, Registered(lambda: {"sequential": SequentialParams, ...})]

The registry is read when a value is validated, so a class that an extension adds later is as good as one of
Braid's own. Errors are those of pydantic's tagged union: a name that is missing or unknown, or what the class
of that name says.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema, to_json

from data.params import Params

P = TypeVar("P", bound=Params)


class Registered:
    """Mark of a field (inside `Annotated`) that takes any class of a registry."""

    def __init__(self, classes: Callable[[], Mapping[str, type[Params]]]) -> None:
        """classes: the sections that there are now, by name."""
        self._classes = classes
        self._built: tuple[tuple[type[Params], ...], TypeAdapter[Params]] | None = None

    def classes(self) -> tuple[type[Params], ...]:
        """The sections that a recipe can have here, as of now."""
        return tuple(self._classes().values())

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(self._adapter().core_schema)

    def _validate(self, value: Any, info: ValidationInfo) -> Params:
        """The section. Raises ValidationError, whose places pydantic continues."""
        if info.mode == "json":  # in which lists stand for tuples, and text for paths
            return self._adapter().validate_json(to_json(value, inf_nan_mode="constants"))
        return self._adapter().validate_python(value)

    def _adapter(self) -> TypeAdapter[Params]:
        classes = self.classes()
        if self._built is None or self._built[0] != classes:
            union: Any = Union[classes]  # noqa: UP007 - `X | Y` needs the classes in the source
            self._built = classes, TypeAdapter(Annotated[union, Field(discriminator="name")])
        return self._built[1]


def literal_name(params: type[Params]) -> str | None:
    """The name that a section is chosen by: its field `name: Literal["..."]`, or None."""
    field = params.model_fields.get("name")
    if field is None or get_origin(field.annotation) is not Literal or len(get_args(field.annotation)) != 1:
        return None
    name = get_args(field.annotation)[0]
    return name if isinstance(name, str) else None


def by_name(*params: type[P]) -> dict[str, type[P]]:
    """Sections by the name that chooses them."""
    named = {literal_name(each): each for each in params}
    assert None not in named and len(named) == len(params), "every section has a name of its own"
    return {name: each for name, each in named.items() if name is not None}
