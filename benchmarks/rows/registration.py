"""Registration of reference images: shift and scale under a weight, noisy data."""

from collections.abc import Callable

import numpy as np

from benchmarks.harness import Arrays, Call, Limit, Row, Subject, star


def arrays(rng: np.random.Generator, n: int, size: int, reach: float) -> Arrays:
    middle = (size - 1) / 2
    rows, columns = np.mgrid[:size, :size]
    radius = np.hypot(columns - middle, rows - middle)
    shifts = rng.uniform(-reach, reach, (n, 2))
    moving = 1000 * star((size, size), middle, middle, size / 40) + rng.normal(0, 1, (size, size))
    spectrum = np.fft.rfft2(moving)
    targets = np.array([shifted(spectrum, moving.shape, s)[0] for s in shifts])
    targets = targets * rng.uniform(0.5, 2, (n, 1, 1)) + rng.normal(0, 1, (n, size, size))
    weight = ((radius > size / 80) & (radius < size / 3)).astype(np.float32)
    return {"targets": targets.astype(np.float32), "moving": moving.astype(np.float32), "weight": weight}


def reference(data: Arrays) -> Arrays:
    return {"shift": _gauss_newton(data, tolerance=1e-13, limit=100)}


def _phases(frequencies: np.ndarray, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """What a shift multiplies the spectrum by along one axis, and its derivative; real at the last frequency."""
    phase = np.exp(-2j * np.pi * frequencies * shift)
    slope = -2j * np.pi * frequencies * phase
    last = np.abs(frequencies) == 0.5  # even frames only
    return np.where(last, np.cos(np.pi * shift), phase), np.where(last, -np.pi * np.sin(np.pi * shift), slope)


def shifted(spectrum: np.ndarray, shape: tuple[int, ...], shift: np.ndarray) -> np.ndarray:
    """The image moved by a shift, and its derivatives in the shift along x and y."""
    x, along_x = _phases(np.fft.rfftfreq(shape[1]), shift[0])
    y, along_y = (v[:, None] for v in _phases(np.fft.fftfreq(shape[0]), shift[1]))
    spectra = spectrum * np.stack([y * x, y * along_x, along_y * x])
    if not shape[0] % 2 and not shape[1] % 2:
        angle = np.pi * shift.sum()
        corner = np.array([np.cos(angle), -np.pi * np.sin(angle), -np.pi * np.sin(angle)])
        spectra[:, shape[0] // 2, -1] = spectrum[shape[0] // 2, -1] * corner
    return np.fft.irfft2(spectra, s=shape)


def _coarse(cross: np.ndarray, power: np.ndarray, reach: int) -> np.ndarray:
    """The integer shift with the least weighted residual."""
    near = np.abs(np.round(np.fft.fftfreq(cross.shape[0]) * cross.shape[0])) <= reach
    score = np.where(near[:, None] & near, cross * np.abs(cross) / np.maximum(power, 1e-9 * power.max()), -np.inf)
    row, column = np.unravel_index(np.argmax(score), score.shape)
    return np.array([(k + n // 2) % n - n // 2 for k, n in ((column, cross.shape[1]), (row, cross.shape[0]))], float)


def _gauss_newton(data: Arrays, tolerance: float = 1e-9, limit: int = 30) -> np.ndarray:
    """Gauss-Newton in float64 from the best integer shift; what all planes share is computed once."""
    moving, weight = data["moving"].astype(float), data["weight"].astype(float)
    shape, square = moving.shape, weight**2
    spectrum, inside = np.fft.rfft2(moving), weight > 0
    power = np.fft.irfft2(np.fft.rfft2(square) * np.fft.rfft2(moving**2).conj(), s=shape)
    found = np.empty((len(data["targets"]), 2))
    for plane, target in enumerate(data["targets"].astype(float)):
        cross = np.fft.irfft2(np.fft.rfft2(square * target) * spectrum.conj(), s=shape)
        shift = _coarse(cross, power, 8)
        weighted = (target * weight)[inside]
        for _ in range(limit):
            image, along_x, along_y = shifted(spectrum, shape, shift)[:, inside] * weight[inside]
            scale = weighted @ image / (image @ image)
            jacobian = np.stack([scale * along_x, scale * along_y, image])
            step = np.linalg.solve(jacobian @ jacobian.T, jacobian @ (weighted - scale * image))
            shift = shift + step[:2]
            if np.abs(step[:2]).max() < tolerance:
                break
        found[plane] = shift
    return found


def floor(data: Arrays) -> Call:
    return lambda: {"shift": _gauss_newton(data)}


def ours(data: Arrays) -> Call:
    call = register(data["targets"], data["moving"], data["weight"], np.ones(len(data["targets"]), bool))
    return lambda: {"shift": call()}


def register(
    targets: np.ndarray, moving: np.ndarray, weight: np.ndarray, valid: np.ndarray
) -> Callable[[], np.ndarray]:
    """coronjax's registration in float64 of planes some of which may be padding: the shifts."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from coronjax import ops

    compiled = jax.jit(lambda t, m, w, v: ops.register_all(t.astype(float), m.astype(float), w.astype(float), v).shift)
    given = jax.device_put((targets, moving, weight, valid))
    return lambda: np.asarray(compiled(*given))


def jwst(dtype: str) -> Callable[[Arrays], Call]:
    def prepare(data: Arrays) -> Call:
        from jwst.coron.imageregistration import align_array

        targets, moving, weight = (data[name].astype(dtype) for name in ("targets", "moving", "weight"))

        def call() -> Arrays:
            return {"shift": align_array(moving, targets, mask=weight, return_aligned=False)[:, :2]}

        return call

    return prepare


def spaceklip(data: Arrays) -> Call:
    """Its method, from its description: MINPACK from no shift, slopes by differences, one image after another.

    Each evaluation shifts the whole frame by a full complex transform and weights the difference.
    """
    from scipy.ndimage import fourier_shift
    from scipy.optimize import leastsq

    targets, moving, weight = (data[name].astype(float) for name in ("targets", "moving", "weight"))

    def difference(p: np.ndarray, target: np.ndarray) -> np.ndarray:
        moved = np.fft.ifftn(fourier_shift(np.fft.fftn(moving), (p[1], p[0]))).real
        return ((target - p[2] * moved) * weight).ravel()

    def call() -> Arrays:
        return {"shift": np.array([leastsq(difference, (0.0, 0.0, 1.0), args=(t,))[0][:2] for t in targets])}

    return call


def vip(*, masked: bool) -> Callable[[Arrays], Call]:
    """The cube begins with the image that the others are registered to."""

    def prepare(data: Arrays) -> Call:
        from vip_hci.preproc import cube_recenter_dft_upsampling

        cube = np.concatenate([data["moving"][None], data["targets"]]).astype(float)
        mask = data["weight"] > 0 if masked else None

        def call() -> Arrays:
            given = {"upsample_factor": 100, "mask": mask, "nproc": 1}
            _, y, x = cube_recenter_dft_upsampling(cube, full_output=True, verbose=False, plot=False, **given)
            return {"shift": -np.stack([x, y], -1)[1:]}

        return call

    return prepare


def scikit_image(data: Arrays) -> Call:
    from skimage.registration import phase_cross_correlation

    targets, moving = data["targets"].astype(float), data["moving"].astype(float)

    def call() -> Arrays:
        shifts = [phase_cross_correlation(t, moving, upsample_factor=100, normalization=None)[0] for t in targets]
        return {"shift": np.array(shifts)[:, ::-1]}

    return call


def largest(output: Arrays, truth: Arrays) -> float:
    return float(np.abs(output["shift"] - truth["shift"]).max())


ROW = Row(
    title="Registration",
    work="{n} images of {size} x {size} pixels, up to {reach} pixels off, weighted over an annulus. The error is the "
    "distance from the float64 minimum of the weighted least-squares objective. spaceKLIP is not on the "
    "package index: its method is written here from its description. scikit-image and VIP's DFT upsampling minimise "
    "another one: without a mask they stop at 0.01 pixels, with one at whole pixels. VIP shifts the images too.",
    sizes={
        "full": {"n": 100, "size": 320, "reach": 1.5},
        "quick": {"n": 20, "size": 160, "reach": 1.5},
        "tiny": {"n": 3, "size": 48, "reach": 0.5},
    },
    arrays=arrays,
    reference=reference,
    error=largest,
    unit="largest error, pixels",
    subjects=(
        Subject("coronjax", ours, packages=("jax", "jaxlib")),
        Subject("numpy, pocketfft, Gauss-Newton", floor),
        Subject("jwst `align_array`, as shipped", jwst("float32"), "official", ("jwst", "numpy", "scipy"), repeats=1),
        Subject("jwst `align_array`, float64", jwst("float64"), "official", ("jwst", "numpy", "scipy"), repeats=1),
        Subject("spaceKLIP's method, scipy `leastsq`", spaceklip, packages=("numpy", "scipy"), repeats=1),
        Subject("scikit-image `phase_cross_correlation`", scikit_image, "official", ("scikit-image", "numpy")),
        Subject("VIP `cube_recenter_dft_upsampling`", vip(masked=False), "vip", ("vip_hci", "scikit-image"), repeats=1),
        Subject("VIP the same, masked", vip(masked=True), "vip", ("vip_hci", "scikit-image"), repeats=1),
    ),
    limits=(Limit("coronjax", "numpy, pocketfft, Gauss-Newton", 1.0),),
)
