"""The tests, as a package: parts share `tests.support`, and files of one name may live in several folders."""
