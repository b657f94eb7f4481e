"""Fuzz one target in this process: ``python -m tests.fuzz.one TARGET SECONDS``."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["logguardd"]):
    from tests.fuzz.targets import TARGETS, seeds

_LONGEST = 4096
#: Seconds that one input may take.
_TIMEOUT = 10


def main() -> None:
    """Fuzz; libFuzzer ends the process, with status 0 after its time."""
    name, seconds = sys.argv[1:]
    folder = Path("build/fuzz") / name
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(name)):
        (corpus / f"seed{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={_LONGEST}",
        f"-timeout={_TIMEOUT}",
        f"-artifact_prefix={folder}/",
    ]
    atheris.Setup(["fuzz", "-verbosity=0", *options, str(corpus)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
