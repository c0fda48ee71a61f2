"""The products of a run as one object: arrays with header and WCS, in memory, and on disk once written."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .cube import VARIANCES, Cube
from .io import products
from .io.pending import Pending
from .ops import APERTURE_RADII

if TYPE_CHECKING:
    from .inputs import Inputs
    from .io.association import Association
    from .io.exposure import Exposure
    from .io.products import Product
    from .options import Options
    from .reduction import Reduction


@dataclass(frozen=True, eq=False)
class Alignment:
    """How every reference plane was aligned to the first integration of one science exposure."""

    names: tuple[str, ...]  # file of each plane
    integrations: np.ndarray  # [plane], number of the integration in its file, from 1
    shift: np.ndarray  # [plane 2], (x, y), pixels: how far the science image moves to match the plane
    scale: np.ndarray  # [plane], flux of the plane over that of the science image
    converged: np.ndarray  # [plane]
    n_iterations: np.ndarray  # [plane]
    residual: np.ndarray  # [plane], rms of the weighted residual, MJy/sr
    standard_error: np.ndarray  # [plane 3], of shift x, shift y (pixels) and scale, by the noise of the pixels
    mismatch: np.ndarray  # [plane 3], the same by PSFs that differ
    pedestal: np.ndarray  # [plane], level of the plane above that of the science image, MJy/sr

    def __repr__(self) -> str:
        """Say how many planes converged and how far the farthest moved."""
        farthest = np.max(np.hypot(*self.shift.T), initial=0.0)
        return f"Alignment({self.converged.sum()} of {len(self.names)} planes converged, farthest {farthest:.3f} px)"

    def columns(self) -> dict[str, np.ndarray]:
        """The same as the columns of a table."""
        return {
            "FILE": np.array(self.names),
            "INTEGRATION": self.integrations.astype(np.int32),
            "SHIFT_X": self.shift[:, 0],
            "SHIFT_Y": self.shift[:, 1],
            "SCALE": self.scale,
            "CONVERGED": self.converged,
            "ITERATIONS": self.n_iterations.astype(np.int32),
            "RESIDUAL": self.residual,
            "SHIFT_X_ERR": self.standard_error[:, 0],
            "SHIFT_Y_ERR": self.standard_error[:, 1],
            "SCALE_ERR": self.standard_error[:, 2],
            "SHIFT_X_MISMATCH": self.mismatch[:, 0],
            "SHIFT_Y_MISMATCH": self.mismatch[:, 1],
            "SCALE_MISMATCH": self.mismatch[:, 2],
            "PEDESTAL": self.pedestal,
        }


@dataclass(frozen=True, eq=False)
class Result:
    """What a run made: products with arrays, headers and WCS; the fitted shifts; where the files are."""

    i2d: Product | None  # None: resampling is skipped
    psfsub: tuple[Product, ...]  # one per science exposure
    psfalign: tuple[Product, ...]  # one per science exposure
    psfstack: Product
    crfints: tuple[Product, ...]  # reference exposures, then science; none where outlier detection is skipped
    alignment: tuple[Alignment, ...]  # one per science exposure
    association: Association
    options: Options
    reduction: Reduction  # numpy arrays
    notes: tuple[str, ...] = ()
    unresampled: tuple[Product, ...] = ()  # one per science integration, in place of `i2d` where that is skipped
    paths: tuple[Path, ...] = ()  # of the files written

    @property
    def products(self) -> tuple[Product, ...]:
        """All products, in the order they are written."""
        sky = self.unresampled if self.i2d is None else (self.i2d,)
        return (*self.crfints, self.psfstack, *self.psfalign, *self.psfsub, *sky)

    def write(self, folder: str | Path) -> Result:
        """Write every product, each under its name only once it is complete.

        Args:
            folder: made where it is missing; files of the same name are replaced.

        Returns:
            The same result with `paths`.

        Raises:
            OutputError: the folder or a file cannot be written. What is complete by then stays.
        """
        return dataclasses.replace(self, paths=products.write(self.products, folder))

    def __repr__(self) -> str:
        """List the products, a line each."""
        lines = [f"Result of {self.association.path.name}"]
        lines += [f"  {product!r}" for product in self.products]
        lines += [f"  {alignment!r}" for alignment in self.alignment]
        return "\n".join(lines)


def assemble(inputs: Inputs, reduction: Reduction, options: Options) -> Result:
    """Turn the arrays of a reduction into products with headers and WCS.

    Args:
        inputs: what was read.
        reduction: its reduction, which may still be computed.
        options: those it was made with.

    Returns:
        `Result`, nothing written yet.
    """
    later = jax.tree.map(Pending, reduction)
    common: dict[str, Any] = {"outliers_skipped": options.outlier_detection.skip}
    common["provenance"] = products.provenance(dataclasses.asdict(options))
    crfints = () if options.outlier_detection.skip else _flagged(inputs, later, common["provenance"])
    i2d = _sky_image(inputs, later, options, common)
    reduction = jax.tree.map(np.asarray, reduction)
    stack = jax.tree.map(lambda array: array[_valid(inputs)], reduction.psfstack)
    psfstack = products.psfstack(inputs.reference_exposures, inputs.association, stack, **common)
    psfsub, unresampled = _subtracted(inputs, reduction, options, common)
    aligned = [_aligned(inputs, reduction, options, common, i) for i in range(len(inputs.science_exposures))]
    for product in (*crfints, *(() if i2d is None else (i2d,))):
        product.settle()
    return Result(
        *(i2d, psfsub, tuple(made for made, _ in aligned), psfstack, crfints, tuple(found for _, found in aligned)),
        *(inputs.association, options, reduction),
        notes=inputs.notes,
        unresampled=unresampled if i2d is None else (),
    )


def _flagged(inputs: Inputs, reduction: Reduction, provenance: Any) -> tuple[Product, ...]:
    """Every exposure with its outliers flagged, references first."""
    made, n_science = [], len(inputs.science_exposures)
    for exposures, cube, offset in (
        (inputs.reference_exposures, reduction.references, n_science),
        (inputs.science_exposures, reduction.science, 0),
    ):
        for i, exposure in enumerate(exposures):
            own = provenance | _background_cards(inputs, i + offset)
            made.append(products.crfints(exposure, inputs.association, _own_planes(cube, i, exposure), own))
    return tuple(made)


def _aligned(
    inputs: Inputs, reduction: Reduction, options: Options, common: dict[str, Any], index: int
) -> tuple[Product, Alignment]:
    """The references aligned to a science exposure, and how they were."""
    alignment, valid, dq = _alignment(inputs, reduction, index), _valid(inputs), reduction.psfalign.dq
    product = products.psfalign(
        *(inputs.science_exposures[index], inputs.reference_exposures, inputs.association),
        sci=Pending(reduction.psfalign.sci)[index][valid],
        err=Pending(reduction.psfalign.err)[index][valid],
        dq=None if dq is None else Pending(dq)[index][valid],
        cards=_background_cards(inputs, len(inputs.science_exposures)) | _blur_card(inputs, options),
        alignment=alignment.columns(),
        mask_source=inputs.mask.source,
        skipped=options.align_refs.skip,
        **common,
    )
    return product, alignment


def _subtracted(
    inputs: Inputs, reduction: Reduction, options: Options, common: dict[str, Any]
) -> tuple[tuple[Product, ...], tuple[Product, ...]]:
    """The science exposures without the star; and, where nothing is resampled, their integrations one by one."""
    exposures = inputs.corrected
    cubes = [_own_planes(reduction.psfsub, i, exposure) for i, exposure in enumerate(inputs.science_exposures)]
    psfsub = tuple(
        products.psfsub(
            exposure,
            inputs.association,
            cubes[i],
            n_modes=int(reduction.subtraction.n_modes[i]),
            skipped=options.klip.skip,
            cards=_cards(inputs, reduction, options, i) | inputs.star.cards(i),
            **_shared(reduction, i),
            **common,
        )
        for i, exposure in enumerate(exposures)
    )
    if not options.resample.skip:
        return psfsub, ()
    shared = [_shared(reduction, i) for i in range(len(exposures))]
    skipped = {"klip_skipped": options.klip.skip, **common}
    return psfsub, products.unresampled(exposures, inputs.association, cubes, shared=shared, **skipped)


def _sky_image(inputs: Inputs, reduction: Reduction, options: Options, common: dict[str, Any]) -> Product | None:
    """The image of the sky as a product."""
    image = reduction.i2d
    if image is None or inputs.grid is None:
        return None
    n_words = -(-sum(exposure.shape[0] for exposure in inputs.science_exposures) // 32)
    arrays: dict[str, Any] = {
        "sci": image.sci,
        "err": image.err,
        "con": image.context[:n_words],
        "wht": image.weight,
        "var_poisson": image.var_poisson,
        "var_rnoise": image.var_rnoise,
        "var_flat": image.var_flat,
        "var_references": image.var_references,
        "var_speckles": image.var_speckles,
        "dq": image.dq,
    }
    resampling = dataclasses.asdict(options.resample)
    cards = _cards(inputs, reduction, options, 0) | inputs.star.sky_cards()
    if image.correlation is not None:
        for radius, factor in zip(APERTURE_RADII, np.asarray(image.correlation), strict=True):
            name = f"ERRCOR{radius:.1f}".replace(".", "")
            cards[name] = (round(float(factor), 5), f"error of a sum within {radius:g} px, over ERR's")
    return products.i2d(
        *(inputs.corrected, inputs.association, inputs.grid, arrays),
        resampling=resampling,
        cards=cards,
        klip_skipped=options.klip.skip,
        **common,
    )


def _background_cards(inputs: Inputs, index: int) -> dict[str, tuple[Any, str]]:
    """What background was subtracted from an exposure, science first."""
    from .io.background import background_cards

    return background_cards(inputs.backgrounds[index])


def _blur_card(inputs: Inputs, options: Options) -> dict[str, tuple[Any, str]]:
    """What was blurred."""
    if not options.align_refs.blur or options.align_refs.skip or not inputs.blur:
        return {}
    return {"BLUR": (round(inputs.blur, 5), "[pixel] sigma of the blur against undersampling")}


def _cards(inputs: Inputs, reduction: Reduction, options: Options, index: int) -> dict[str, tuple[Any, str]]:
    """Background, blur, and over how much the speckles of VAR_SPECKLES are alike."""
    cards = _background_cards(inputs, index) | _blur_card(inputs, options)
    if reduction.shared is None:
        return cards
    return cards | {"SPKFWHM": (round(inputs.resolution, 5), "[pixel] FWHM of the correlation of speckles")}


def _shared(reduction: Reduction, index: int) -> dict[str, Any]:
    """What all integrations of an exposure have in common, as products name it."""
    if reduction.shared is None:
        return {}
    shared = {"var_references": reduction.shared.references, "var_speckles": reduction.shared.speckles}
    return {name: variance[index] for name, variance in shared.items() if variance is not None}


def _valid(inputs: Inputs) -> np.ndarray | slice:
    """Which planes of the padded reference stack are integrations: the first ones, where that is so, without a copy."""
    valid = np.asarray(inputs.references.valid).ravel()
    first = slice(int(valid.sum()))
    return first if valid[first].all() else valid


def _own_planes(cube: Cube, index: int, exposure: Exposure) -> Cube:
    """The integrations of one exposure, without padding, with every variance that its file has."""
    n = exposure.shape[0]
    own = {f.name: getattr(cube, f.name) for f in dataclasses.fields(Cube)}
    own = {name: None if array is None else array[index, :n] for name, array in own.items()}
    for name in VARIANCES:
        kept = getattr(exposure.cube, name)
        if own[name] is None and kept is not None:  # another exposure has none, so that it took no part
            own[name] = np.where((np.asarray(own["dq"]) & 1) != 0, np.float32(np.nan), kept)
    return Cube(**own)


def _alignment(inputs: Inputs, reduction: Reduction, index: int) -> Alignment:
    found = jax.tree.map(lambda array: array[index][_valid(inputs)], reduction.registration)
    exposures = inputs.reference_exposures
    return Alignment(
        names=tuple(e.path.name for e in exposures for _ in range(e.shape[0])),
        integrations=np.concatenate([np.arange(1, e.shape[0] + 1) for e in exposures]),
        shift=found.shift,
        scale=found.scale,
        converged=found.converged,
        n_iterations=found.n_iterations,
        residual=found.residual,
        standard_error=found.standard_error,
        mismatch=found.mismatch,
        pedestal=found.pedestal,
    )
