"""What ends a benchmark."""


class BenchError(Exception):
    """No figure of this run may be believed; the message says why, for people."""
