"""One small app a framework, all with the same pages; `pages.py` says which."""
