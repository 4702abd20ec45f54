"""The life of one request: what all requests of an app share, and one small object for each that runs."""
