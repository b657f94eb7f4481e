"""Private instances of real servers on free loopback ports in temporary folders: nothing of the machine's is touched."""
