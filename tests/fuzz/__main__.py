"""Fuzz the targets with atheris (libFuzzer), each in a process of its own, for so many seconds.

    python -m tests.fuzz [--seconds N] [TARGET]...

What an input breaks is printed, and kept in build/fuzz/TARGET; exit status 1. Found inputs stay there for the next time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from tests.fuzz.targets import TARGETS


def main() -> int:
    """Fuzz every target asked for; return the exit status."""
    parser = argparse.ArgumentParser(description="Fuzz what reads hostile bytes.")
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    given = parser.parse_args()
    broken = []
    for name in given.targets or TARGETS:
        print(f"== {name}: {TARGETS[name].__doc__}", flush=True)
        command = [sys.executable, "-m", "tests.fuzz.one", name, str(given.seconds)]
        if subprocess.run(command, check=False, timeout=given.seconds + 300).returncode:
            broken.append(name)
    print(f"broken: {', '.join(broken)}" if broken else "nothing broke")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
