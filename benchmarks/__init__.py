"""Measurements. Only these commands write `benchmarks/results/`; the README's tables are made from it."""
