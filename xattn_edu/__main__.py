"""The command `xattn`, also `python -m xattn_edu`: `cli`, or `doctor` alone where a broken library stops `cli`."""

import sys


def main() -> int:
    """Entry point; the exit status is that of `cli.main`."""
    try:
        from xattn_edu.cli import main as command
    except Exception:  # noqa: BLE001 - a broken library raises anything
        if sys.argv[1:] != ["doctor"]:
            raise
        from xattn_edu.doctor import show

        return show()
    return command()


if __name__ == "__main__":
    sys.exit(main())
