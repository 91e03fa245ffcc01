"""Data sets, one module each: read from disk, checked before use, never downloaded."""
