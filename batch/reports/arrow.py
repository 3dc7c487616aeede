"""Whether Apache Arrow is there, which reads and writes Parquet and ORC and comes with an extra."""

from __future__ import annotations

from batch.errors import UsageError

# What Arrow raises of a file that is damaged, by the built-in bases of its exceptions; an OSError
# without a number is another.
DAMAGES = (ValueError, TypeError, LookupError, NotImplementedError)


def check_pyarrow(user: str, otherwise: str = "") -> None:
    """Make sure that pyarrow is installed; ``user`` names what needs it.

    ``otherwise`` ends the remedy with what can be done without it.

    Raises:
        UsageError: it is not.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{user} needs the package pyarrow, which is not installed",
            f"run: pip install 'batch-label[parquet]'{otherwise}",
        ) from error
