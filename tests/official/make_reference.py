"""Make tests/data/official_small.npz: two simulated associations and what the official pipeline makes of them.

Needs coronjax and an interpreter with jwst 3.0.0 (see judge.py): python -m tests.official.make_reference
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

import coronjax
from tests.official.judge import ROOT, run_official
from tests.small import CUBE, OPTIONS

TARGET = ROOT / "tests/data/official_small.npz"
MODES: dict[str, dict[str, Any]] = {
    "nircam": {"shape": (36, 33), "n_science": 2, "nints_science": 3, "n_references": 2, "nints_references": 2},
    "miri_4qpm": {"shape": (32, 35), "n_science": 1, "nints_science": 3, "n_references": 2, "nints_references": 2},
}


def inputs(asn: Path, mask: Path) -> dict[str, np.ndarray]:
    """The arguments of `reduce`, flat."""
    given = coronjax.load(asn, psfmask=mask, options=OPTIONS).arguments()
    found = {f"{kind}.{part}": getattr(given[kind], part) for kind in ("science", "references") for part in CUBE}
    return found | {name: np.asarray(value) for name, value in given.items() if name not in ("science", "references")}


def products(folder: Path) -> dict[str, np.ndarray]:
    """The official products that are compared, and the fitted shifts and scales."""
    timings = json.loads((folder / "timings.json").read_text())
    found = {"registration": np.array(timings["align_shifts_xshift_yshift_beta_per_target"])}
    for name in ("SCI", "ERR", "DQ"):
        planes = [fits.getdata(path, name) for path in sorted(folder.glob("*_psfsub.fits"))]
        found[f"psfsub.{name.lower()}"] = np.array(planes)
    (path,) = folder.glob("*_i2d.fits")
    for name in ("SCI", "ERR", "WHT", "CON", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"):
        found[f"i2d.{name.lower()}"] = fits.getdata(path, name)
    return {name: np.ascontiguousarray(array, array.dtype.newbyteorder("=")) for name, array in found.items()}


def main() -> None:
    """Simulate, reduce officially, write."""
    arrays = {}
    with tempfile.TemporaryDirectory() as folder:
        for mode, settings in MODES.items():
            made = coronjax.simulate.simulate(mode, Path(folder, mode), seed=7, **settings)
            official = Path(folder, f"{mode}-official")
            run_official(made.asn, official, {"klip.truncate": OPTIONS.klip.truncate}, made.psf_mask)
            for kind, part in (("input", inputs(made.asn, made.psf_mask)), ("official", products(official))):
                arrays |= {f"{mode}/{kind}/{name}": array for name, array in part.items()}
    np.savez_compressed(TARGET, **arrays)
    print(f"{TARGET}: {TARGET.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
