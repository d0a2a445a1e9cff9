"""The toolkit's version: stated here, read by the package's metadata, its commands and its files."""

__version__ = "0.1.0"
