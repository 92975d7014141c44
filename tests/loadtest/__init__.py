"""The load test of the annotation game: `python -m tests.loadtest`."""
