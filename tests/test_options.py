"""Options: what is refused, what is a leaf, and that the refusal names option and value."""

import jax
import numpy as np
import pytest

from coronjax import AlignRefs, Klip, Options, OptionsError, OutlierDetection, Resample

WRONG = [
    (OutlierDetection, "snr", 0),
    (OutlierDetection, "snr", "5"),
    (OutlierDetection, "maskpt", 1.5),
    (OutlierDetection, "good_bits", "NO_SUCH_BIT"),
    (OutlierDetection, "good_bits", str(2**32)),
    (AlignRefs, "median_box_length", -1),
    (AlignRefs, "median_box_length", 2.5),
    (AlignRefs, "minimiser", "simplex"),
    (Klip, "truncate", np.int64(-1)),
    (Klip, "truncate", 2.5),
    (Klip, "truncate", True),
    (Resample, "pixfrac", 0.0),
    (Resample, "pixel_scale", float("inf")),
    (Resample, "crval", (float("nan"), 1.0)),
    (Resample, "output_shape", (1, 10)),
    (Resample, "output_shape", (10.5, 10)),
    (Resample, "weight_type", "errors"),
    (Resample, "kernel", "lanczos3"),
    (Resample, "fillval", "INDEF"),
    (Options, "precision", "float16"),
]


@pytest.mark.parametrize(("options", "name", "value"), WRONG, ids=[f"{o.__name__}.{n}={v}" for o, n, v in WRONG])
def test_refused_with_option_and_value(options, name, value):
    with pytest.raises(OptionsError, match=name) as caught:
        options(**{name: value})
    wrong = next(v for v in value if v != 10) if isinstance(value, tuple) else value
    assert repr(wrong) in str(caught.value)


def test_lmdif_needs_float64():
    with pytest.raises(OptionsError, match="lmdif"):
        Options(precision="float32", align_refs=AlignRefs(minimiser="lmdif"))


def test_numbers_are_leaves_and_choices_are_not():
    one, other = Options(), Options(klip=Klip(truncate=3), resample=Resample(pixfrac=0.5))
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert jax.tree.structure(one) != jax.tree.structure(Options.official())


def test_tracers_are_welcome():
    assert jax.jit(lambda n: Klip(truncate=n).truncate + 1)(4) == 5
