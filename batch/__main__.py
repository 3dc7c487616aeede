"""Where the program starts: ``batch-label``, or ``python -m batch``."""

import gc
import signal


def main() -> None:
    """Run the program and end the process."""
    # Before the imports, which take a tenth of a second: Ctrl-C would end them in a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Nothing that is imported becomes garbage, so that to look for it is a waste.
    gc.disable()
    from batch.cli.main import main as run

    gc.enable()
    run()


if __name__ == "__main__":
    main()
