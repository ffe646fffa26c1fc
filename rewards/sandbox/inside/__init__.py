"""Code that runs inside the box. The host sends it in compiled, so no file of ours is there to be found.

It imports as little as it can (not json, re, enum, typing, dataclasses, socket): they would double the 11 ms
in which Python starts, and every program pays that.
"""
