"""The steps of a reduction, each a pure function of arrays written for one item and vmapped by its callers."""

from .align import Registration, register, register_all, unregistered
from .apertures import APERTURE_RADII, aperture_mask, at_apertures, correlation_factors
from .blur import blur
from .border import crop_border, pad_and_taper
from .drizzle import DrizzleSums, drizzle_add, drizzle_init
from .gram import Gram, gram, init_gram, merge, update
from .klip import KlipResult, klip, subtract
from .klip_sweep import klip_sweep
from .klip_weights import Weights, klip_weights
from .lmdif import follow_lmdif
from .median import nanmedian
from .outliers import Outliers, flag_outliers
from .overlap import Overlap, overlap, overlap_window
from .pedestal import Pedestal, pedestal
from .predict import predict_star
from .registration_weight import registration_weight
from .repair import Repaired, repair_bad_pixels
from .resample import Resampled, drizzle_finish, resample
from .scan import visited_pixels
from .shared_noise import SharedNoise
from .shift import fourier_shift
from .shift_frame import Shifted, shift_frame
from .speckles import correlate_speckles, speckle_variance
from .spread import spread
from .stack import stack_references
from .subspace import modes, residual_error
from .subtraction_noise import fit_pixels, references_variance

__all__ = [
    "APERTURE_RADII",
    "DrizzleSums",
    "Gram",
    "KlipResult",
    "Outliers",
    "Overlap",
    "Pedestal",
    "Registration",
    "Repaired",
    "Resampled",
    "SharedNoise",
    "Shifted",
    "Weights",
    "aperture_mask",
    "at_apertures",
    "blur",
    "correlate_speckles",
    "correlation_factors",
    "crop_border",
    "drizzle_add",
    "drizzle_finish",
    "drizzle_init",
    "fit_pixels",
    "flag_outliers",
    "follow_lmdif",
    "fourier_shift",
    "gram",
    "init_gram",
    "klip",
    "klip_sweep",
    "klip_weights",
    "merge",
    "modes",
    "nanmedian",
    "overlap",
    "overlap_window",
    "pad_and_taper",
    "pedestal",
    "predict_star",
    "references_variance",
    "register",
    "register_all",
    "registration_weight",
    "repair_bad_pixels",
    "resample",
    "residual_error",
    "shift_frame",
    "speckle_variance",
    "spread",
    "stack_references",
    "subtract",
    "unregistered",
    "update",
    "visited_pixels",
]

# Public here, yet not in the registry: they work on concrete arrays to choose static sizes, or are the parts of an
# accumulation whose whole (gram, resample) is what the registry tests; `unregistered` takes no array.
HOST_FUNCTIONS = {
    "overlap_window",
    "visited_pixels",
    "init_gram",
    "merge",
    "update",
    "drizzle_init",
    "drizzle_add",
    "drizzle_finish",
    "unregistered",
}
