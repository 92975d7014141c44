"""The command line: one Typer app; each file holds a group of verbs, `options` what they share."""
