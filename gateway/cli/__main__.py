"""`python -m gateway.cli`: the command line where no `gateway` is on the path, as for its own child processes."""

from gateway.cli import main

main()
