"""Steps: ranges of a call's output that can be judged alone, how they are cut, labelled and written."""
