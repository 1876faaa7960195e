"""oneDNN is given float32 products where it computes them in float32, and nowhere else."""

import platform
import threading
from collections.abc import Iterator

import pytest
import torch

from transformer_mt.model import onednn
from transformer_mt.model.onednn import products_by_onednn

SETTING = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
FINE = 1 + 2.0**-12  # in bfloat16, and in TF32, it is 1


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What is known of this CPU is found out anew, before a test and after it."""
    onednn._is_exact.cache_clear()
    yield
    onednn._is_exact.cache_clear()


@pytest.mark.parametrize("shape", [(256, 256), (2048, 256), (512, 14, 64)], ids=str)
def test_nothing_is_rounded(shape: tuple[int, ...]) -> None:
    """A product of n numbers 1 + 2⁻¹² by themselves is n (1 + 2⁻¹¹ + 2⁻²⁴): in float32, and not in bfloat16."""
    x = torch.full(shape, FINE)
    with products_by_onednn():
        product = x.mT @ x
    exact = torch.full_like(product, shape[-2] * FINE**2)
    torch.testing.assert_close(product, exact, atol=0, rtol=1e-6)


def test_the_setting_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error, too."""
    monkeypatch.setattr(onednn, "_is_exact", lambda: True)
    before = SETTING.fp32_precision
    with pytest.raises(RuntimeError), products_by_onednn():
        assert SETTING.fp32_precision == "bf16" != before
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert SETTING.fp32_precision == before


def test_threads_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that came in between would leave behind what it found: the setting of the other."""
    monkeypatch.setattr(onednn, "_is_exact", lambda: True)
    before = SETTING.fp32_precision
    came = threading.Event()

    def another() -> None:
        with products_by_onednn():
            came.set()

    other = threading.Thread(target=another)
    with products_by_onednn():
        other.start()
        assert not came.wait(0.05)
    other.join()
    assert came.is_set()
    assert SETTING.fp32_precision == before


@pytest.mark.skipif(not onednn.HAS_ONEDNN, reason="there is nothing to give")
@pytest.mark.parametrize(
    ("architecture", "amx", "given"), [("x86_64", False, True), ("x86_64", True, False), ("aarch64", False, False)]
)
def test_cpus_that_round_are_left_alone(
    architecture: str, amx: bool, given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those with AMX, and those of ARM, have units for bfloat16 that oneDNN would use."""
    if given and not onednn._is_exact():
        pytest.skip("this CPU rounds")
    onednn._is_exact.cache_clear()
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    before = SETTING.fp32_precision
    with products_by_onednn():
        assert (SETTING.fp32_precision != before) == given


def test_a_cpu_that_rounds_all_the_same_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it says of itself: a product is looked at."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch, "full", lambda shape, value, **_: torch.ones(shape))  # as rounded to bfloat16
    before = SETTING.fp32_precision
    with products_by_onednn():
        assert SETTING.fp32_precision == before
