"""Fuzz from the command line.

    python -m tests.fuzz                                       10,000,000 executions over all targets
    python -m tests.fuzz --executions 100000 --target plane    one target
    python -m tests.fuzz --target plane --input FILE           one input, with its traceback
    python -m tests.fuzz --list

What is found stays in .data/fuzz: `found/TARGET` are inputs that reached something new and help the next run,
`crashes` the crashes, as found and in their smallest form, with tracebacks. Exits with 1 when there is one.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.fuzz.campaign import ENGINES, ROOT, Campaign, campaign_targets, default_engine
from tests.fuzz.catalogue import TARGETS


def main() -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--executions", type=int, default=10_000_000)
    parser.add_argument("--target", action="append", default=[], choices=sorted(TARGETS), metavar="TARGET")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--engine", choices=ENGINES, default=default_engine())
    parser.add_argument("--directory", type=Path, default=ROOT / ".data" / "fuzz")
    parser.add_argument("--input", type=Path, help="run this one input")
    parser.add_argument("--list", action="store_true", help="name the targets")
    arguments = parser.parse_args()
    targets = campaign_targets(arguments.target)
    if arguments.list:
        print(*sorted(TARGETS), sep="\n")
        return 0
    if arguments.input is not None:
        print(targets[0].run(arguments.input.read_bytes()))
        return 0
    campaign = Campaign(
        targets,
        arguments.executions,
        seed=arguments.seed,
        processes=arguments.processes,
        engine=arguments.engine,
        directory=arguments.directory,
        say=lambda line: print(line, flush=True),
    )
    campaign.run()
    print(campaign.summary())
    return 1 if campaign.crashes else 0


if __name__ == "__main__":
    sys.exit(main())
