"""The steps of a reduction, each a pure function of arrays written for one item and vmapped by its callers."""

from .align import Registration, register, register_all
from .gram import Gram, gram, init_gram, merge, update
from .klip import KlipResult, Weights, klip, klip_weights, subtract
from .lmdif import follow_lmdif
from .median import nanmedian
from .outliers import Outliers, flag_outliers
from .overlap import Overlap, overlap, overlap_window
from .repair import Repaired, repair_bad_pixels
from .resample import DrizzleSums, Resampled, drizzle_add, drizzle_finish, drizzle_init, resample, spread
from .scan import visited_pixels
from .shift import fourier_shift
from .stack import stack_references
from .subspace import modes, residual_error

__all__ = [
    "DrizzleSums",
    "Gram",
    "KlipResult",
    "Outliers",
    "Overlap",
    "Registration",
    "Repaired",
    "Resampled",
    "Weights",
    "drizzle_add",
    "drizzle_finish",
    "drizzle_init",
    "flag_outliers",
    "follow_lmdif",
    "fourier_shift",
    "gram",
    "init_gram",
    "klip",
    "klip_weights",
    "merge",
    "modes",
    "nanmedian",
    "overlap",
    "overlap_window",
    "register",
    "register_all",
    "repair_bad_pixels",
    "resample",
    "residual_error",
    "spread",
    "stack_references",
    "subtract",
    "update",
    "visited_pixels",
]

# Public here, yet not in the registry: they work on concrete arrays to choose static sizes, or are the parts of an
# accumulation whose whole (gram, resample) is what the registry tests.
HOST_FUNCTIONS = {
    "overlap_window",
    "visited_pixels",
    "init_gram",
    "merge",
    "update",
    "drizzle_init",
    "drizzle_add",
    "drizzle_finish",
}
