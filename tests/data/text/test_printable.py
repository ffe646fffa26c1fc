import pytest

from data.text.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain & <tag>", "plain & <tag>"),
        ("a\x1b[31mb\n", r"a\x1b[31mb\n"),
        ("\x00\x07\x7f\x9b", r"\x00\x07\x7f\x9b"),
        ("\ud800\ufffe\uffff", r"\ud800\ufffe\uffff"),
        ("a\u2028b\u202ec", r"a\u2028b\u202ec"),
        ("naïve 3²·π 漢字 👍", "naïve 3²·π 漢字 👍"),
    ],
)
def test_controls_become_escapes_and_the_rest_stays(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_what_is_to_stay_stays() -> None:
    assert printable("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"
