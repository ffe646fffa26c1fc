"""Colours and number format shared by all pictures."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours of series, in their order: Okabe and Ito's palette, safe for common kinds of colour blindness."""
INK, LIGHT, GREY = "#222222", "#B8BEC6", "#7A828C"
"""Colours of text and emphasis, of frames, and of secondary elements."""
FAULT, MARK = "#B00020", "#FFE58A"
"""Colours of fault texts, and of the background of marked text."""


def number(value: float) -> str:
    """At most one decimal: 3 for 3.0, 2.5 for 2.46."""
    return f"{value:.1f}".removesuffix(".0")
