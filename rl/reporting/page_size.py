"""Which parts of a page are shown whole, so that it stays small enough to be sent."""

from collections.abc import Sequence


def within_bytes(sizes: Sequence[int], most: int) -> list[bool]:
    """Whether each part is shown whole: as many as fit into `most` bytes, the smallest first.

    Example: of sizes 5, 1, 9 and 5 with 11 bytes, the second and both of size 5 are shown.
    """
    left, shown = most, [False] * len(sizes)
    for place in sorted(range(len(sizes)), key=sizes.__getitem__):
        if sizes[place] > left:
            break
        left -= sizes[place]
        shown[place] = True
    return shown
