"""Plan: turn fields, transforms and views into render passes, stages and buffer specs."""
