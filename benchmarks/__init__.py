"""Measure coronjax against a numpy floor and other packages, on the same arrays in the same run."""
