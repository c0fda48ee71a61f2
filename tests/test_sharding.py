"""One call serves one device or many: eight simulated ones give the numbers of one, and none of them gets the stack."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEVICES = 8
LAYOUTS = ("references x pixels", "explicit", "references")
STEPS = (
    "klip",
    "klip_in_halves",
    "klip_masked",
    "klip_masked/odd",
    "klip_gradient",
    "parts",
    "sweep_of_zones",
    "sweep_of_zones/odd",
    "parts_of_zones",
    "median",
    "registration",
    "registration_gradient",
)
CHAIN = ("chain", "chain_gradient", "official")
# The chain runs once, and is compiled faster than well.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def with_eight_devices(*words: str, flags: str = "") -> list[str]:
    """The lines that Python prints. The number of devices is fixed when JAX starts: a process of its own."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
    environment = os.environ | {"XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={DEVICES}".strip()}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def on_eight_devices(cases: list[tuple[str, str]], flags: str = "") -> list[dict]:
    return json.loads(with_eight_devices("-m", "tests.sharded", *(":".join(case) for case in cases), flags=flags)[-1])


def check(cases: list[tuple[str, str]], flags: str = "") -> None:
    for case, found in zip(cases, on_eight_devices(cases, flags), strict=True):
        assert found["devices"] == DEVICES, case
        assert found["apart"] < 5e-12, (case, found)
        # An eighth is a device's own share; beside a stack this small, images of one exposure count too.
        assert found["brought"] < 0.2, (case, found)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_steps(layout):
    check([(name, layout) for name in STEPS])


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAIN)
def test_whole_chain(name):
    """Where the compiler divides: JAX asks a program that does it itself to say how at every step."""
    check([(name, "references x pixels"), (name, "references")], QUICK)


@pytest.mark.parametrize("name", ["klip", pytest.param("sweep_of_zones", marks=pytest.mark.slow)])
def test_klip(name):
    check([(name, "references x pixels")])


@pytest.mark.slow
def test_explicit_axes_are_refused_by_the_chain():
    assert on_eight_devices([("chain", "explicit")]) == [{"refused": True}]


def test_programs_that_are_kept_are_for_the_first_device(tmp_path):
    """On another one, on all, or on a mesh that is set, a call is what it is without a folder."""
    code = f"""
import jax, numpy as np
from pathlib import Path
from jax.sharding import NamedSharding, PartitionSpec
from coronjax.programs import kept_program, programs_kept_in

def double(x):
    return 2 * x

doubled, x = kept_program(double), np.arange(8, dtype=np.float32)
first, second, *_ = jax.devices()
everywhere = NamedSharding(jax.make_mesh((8,), ("x",)), PartitionSpec("x"))
with programs_kept_in(Path({str(tmp_path)!r})):
    for place in (first, second, everywhere, first):
        found = doubled(jax.device_put(x, place))
        assert found.tolist() == (2 * x).tolist() and found.devices() == jax.device_put(x, place).devices(), place
    with jax.default_device(second):
        assert doubled(x).devices() == {{second}}
    with jax.set_mesh(everywhere.mesh):
        doubled(x)
    with jax.default_device("cpu"):
        assert doubled(x).devices() == {{first}}
"""
    with_eight_devices("-c", code)
    assert len(list(tmp_path.iterdir())) == 2  # for the first device, unsaid and said
