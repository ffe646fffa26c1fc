"""`braid eval` without a run and without Ray: any model directory or endpoint, on any task or rows."""
