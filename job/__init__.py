"""Truecopy: plain-file backups that prove themselves."""

__version__ = "0.1.0"
