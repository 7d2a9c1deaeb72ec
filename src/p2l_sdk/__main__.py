"""`python -m p2l_sdk` is the `p2l` command."""

from p2l_sdk.cli import main

main()
