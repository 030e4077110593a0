"""Numerical operations behind one signature each: what runs on which device is chosen here and nowhere else."""
