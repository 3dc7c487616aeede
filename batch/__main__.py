"""Entry point of ``batch-label`` and ``python -m batch``."""

import gc
import signal


def main() -> None:
    """Run the command line and exit the process."""
    # Before the imports: they take 0.1 s, in which Ctrl-C would print a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Imports create no garbage worth collecting.
    gc.disable()
    from batch.cli.main import main as run

    gc.enable()
    run()


if __name__ == "__main__":
    main()
