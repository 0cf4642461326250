"""An RSocket gateway for the edge."""

__version__ = "0.1.0"
