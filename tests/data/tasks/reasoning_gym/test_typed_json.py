"""JSON that keeps tuples and keys that are no text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.tasks.reasoning_gym import typed_json

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
KEYS = st.integers() | st.text() | st.sampled_from(["!tuple", "!items"]) | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_is_read_with_its_types(value: object) -> None:
    assert repr(typed_json.read(typed_json.write(value))) == repr(value)


def test_ordinary_values_are_ordinary_json() -> None:
    assert typed_json.write({"a": [1, "b"], "c": None}) == '{"a": [1, "b"], "c": null}'
    assert typed_json.write({1: (2, 3)}) == '{"!items": [[1, {"!tuple": [2, 3]}]]}'


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="set cannot be written"):
        typed_json.write({"a": {1, 2}})
