"""Spans: the server span's own lean type, the queue that exports spans, and sampling that keeps what matters."""
