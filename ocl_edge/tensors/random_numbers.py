"""PyTorch's random numbers on the CPU, in NumPy: both are the Mersenne Twister MT19937.

So a run without PyTorch restores the same weights as one with it, and each goes on from the other's state.
The layout of the state is that of ``CPUGeneratorImplState`` (PyTorch, aten/src/ATen/CPUGeneratorImpl.cpp).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ocl_edge.tensors.numpy_tensor import Tensor, as_tensor

WORDS = 624
STATE = np.dtype(
    [
        ("seed", "<u8"),
        ("left", "<i4"),
        ("seeded", "<i4"),
        ("next", "<u8"),
        ("words", "<u8", WORDS),
        ("of_normal_numbers", "u1", 40),
    ]
)


class Generator:
    """``torch.Generator`` as far as uniform numbers go."""

    def __init__(self) -> None:
        self._twister = np.random.MT19937()
        self.manual_seed(0)

    def manual_seed(self, seed: int) -> Generator:
        self._seed = seed
        begun: Any = np.random.RandomState(seed & 0xFFFFFFFF).get_state(legacy=True)
        self._set(begun[1], begun[2])
        return self

    def uniform(self, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """float32 in [0, 1): the lower 24 bits of a number each."""
        drawn = np.asarray(self._twister.random_raw(int(np.prod(shape, dtype=np.int64))))
        numbers: np.ndarray[Any, Any] = (drawn & 0xFFFFFF).astype(np.float32) * np.float32(2.0**-24)
        return numbers.reshape(shape)

    def get_state(self) -> Tensor:
        """uint8 [5056]."""
        held = self._twister.state["state"]
        state = np.zeros((), STATE)
        state["seed"], state["seeded"], state["words"] = self._seed & (2**64 - 1), 1, held["key"]
        state["next"], state["left"] = held["pos"], max(1, WORDS + 1 - held["pos"])
        return as_tensor(np.frombuffer(state.tobytes(), np.uint8).copy())

    def set_state(self, state: Any) -> Generator:
        """Take over a state.

        Raises:
            RuntimeError: it is none, as from PyTorch.
        """
        array = np.asarray(state)
        if array.dtype != np.uint8 or array.shape != (STATE.itemsize,):
            raise RuntimeError(f"expected uint8 [{STATE.itemsize}], got {array.dtype} {list(array.shape)}")
        held = np.frombuffer(array.tobytes(), STATE)[0]
        left, position, words = int(held["left"]), int(held["next"]), held["words"]
        if held["seeded"] != 1 or not 1 <= left <= WORDS or position > WORDS or (words >> 32).any():
            raise RuntimeError("no state of a Mersenne Twister")
        self._seed = int(held["seed"])
        self._set(words.astype(np.uint32), WORDS if left == 1 else position)
        return self

    def _set(self, words: Any, position: int) -> None:
        self._twister.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": position}}
