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


def on_eight_devices(cases: list[tuple[str, str]], flags: str = "") -> list[dict]:
    """The number of devices is fixed when JAX starts: a process of its own."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
    environment = os.environ | {"XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={DEVICES}".strip()}
    command = [sys.executable, "-m", "tests.sharded", *(":".join(case) for case in cases)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


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
    """On another one, or on all, a call is what it is without a folder."""
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
    assert doubled(x).devices() == {{first}}
"""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}".strip()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"XLA_FLAGS": flags}, check=True)
    assert len(list(tmp_path.iterdir())) == 1
