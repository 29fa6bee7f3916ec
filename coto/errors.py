"""The one exception type that the command line turns into a single line."""


class CotoError(Exception):
    """Bad input, reported in one line: which key or file, its value, what was expected."""
