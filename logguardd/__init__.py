"""logguardd: a syslog receiver that protects a fleet."""

__version__ = "0.1.0"
