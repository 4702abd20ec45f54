"""Peers side by side, in one run; see README.md. Run as modules: ``python -m benchmarks.http``."""
