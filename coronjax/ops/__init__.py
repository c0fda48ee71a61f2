"""The steps of a reduction, each a pure function of arrays written for one item and vmapped by its callers."""

from .median import nanmedian
from .outliers import Outliers, flag_outliers
from .repair import Repaired, repair_bad_pixels
from .stack import stack_references

__all__ = ["Outliers", "Repaired", "flag_outliers", "nanmedian", "repair_bad_pixels", "stack_references"]

HOST_FUNCTIONS: set[str] = set()  # public here, but of concrete arrays: they choose static sizes before compilation
