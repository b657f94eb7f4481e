"""The first run: from a freshly installed package to a daemon that runs, and from there to the hosts that send to it."""
