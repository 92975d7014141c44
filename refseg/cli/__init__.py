"""The verbs of the command line: one module a verb, with `add_arguments(parser)` and `run(arguments) -> int | None`."""
