"""File with the tags that a run added to a pretrained tokenizer. No torch: the driver imports it too."""

import json
from pathlib import Path

TAG_FILE = "added_tags.json"
"""{tag: id}, beside the initial weights and those of every stage; none where no tag was added."""


def read_tag_ids(model_dir: Path) -> tuple[int, ...]:
    """Ids of the tags that the run of these weights added; () when it added none."""
    file = model_dir / TAG_FILE
    if not file.exists():
        return ()
    return tuple(int(index) for index in json.loads(file.read_text(encoding="utf-8")).values())
