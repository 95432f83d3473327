"""Fuzz targets: one for each parser of what comes from the network, and one for the whole SIP user agent.

`python -m fuzz run --seconds 60` runs them with atheris (libFuzzer); `python -m pytest tests/test_fuzz_targets.py` runs
them without it, over the kept corpus and over inputs of hypothesis. Nothing in here is part of what is installed.
"""
