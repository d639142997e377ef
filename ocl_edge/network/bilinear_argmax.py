"""The argmax of bilinearly resized logits, at the price of its edges.

Bilinear interpolation is a convex combination of four logits. Where one class is the strongest at
all four corners of a cell, it is the strongest everywhere between them, and the cell is filled with
it. Only the other cells, a few percent of a frame, are interpolated, and there only the classes
that no corner's winner beats at every corner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocl_edge.masks import Mask, mask_dtype
from ocl_edge.network.sampling import FloatPlane, Positions, SampledAxis

ROUNDING = 16 * float(np.finfo(np.float32).eps)
"""Relative distance below which the rounding of an interpolation may decide which class is stronger."""


@dataclass(frozen=True)
class _MixedCells:
    """Cells that need interpolation, those with most candidates first.

    Attributes:
        corners: positions of the four logits of each cell in a plane, [4, cells].
        rows: row of each cell.
        columns: column of each cell.
        candidates: how many classes may win, [cells], descending.
        classes: these classes, cell after cell, ascending within each.
    """

    corners: Positions
    rows: Positions
    columns: Positions
    candidates: Positions
    classes: Positions


@dataclass(frozen=True)
class _Rank:
    """The candidates of one rank, a value for each output column of the cells that have so many.

    Attributes:
        classes: [columns].
        above: their logits on the upper edge of the cell, float32 [columns].
        below: on the lower edge, likewise.
    """

    classes: Mask
    above: FloatPlane
    below: FloatPlane

    def some(self, columns: Positions) -> _Rank:
        """Those of some columns, ascending; higher ranks have the first columns only."""
        columns = columns[: np.searchsorted(columns, len(self.classes))]
        return _Rank(self.classes[columns], self.above[columns], self.below[columns])


class BilinearArgmax:
    """Masks of one size from logits of another.

    Args:
        logits_size: height and width of the logits.
        mask_size: height and width of the masks.
        align_corners: as in `torch.nn.functional.interpolate`.
    """

    def __init__(self, logits_size: tuple[int, int], mask_size: tuple[int, int], align_corners: bool) -> None:
        self.mask_size = mask_size
        self._y, self._x = (
            SampledAxis.ask_pytorch(inputs, outputs, align_corners)
            for inputs, outputs in zip(logits_size, mask_size, strict=True)
        )

    def mask(self, logits: FloatPlane) -> Mask | None:
        """Class indices: float32 [C, h, w] -> [H, W], see `mask_dtype`; the first of equals wins.

        Returns:
            None where this would be no faster than interpolating everything, or a logit is not finite.
        """
        if not np.isfinite(logits.sum()):
            return None
        winner, best, second = strongest_two(logits)
        noise = np.float32(ROUNDING * max(float(np.abs(best).max()), float(np.abs(second).max())))
        certain = best - second > noise
        mixed = self._mixed(winner, certain)
        rows, columns = np.nonzero(mixed)
        if 4 * len(rows) > mixed.size:
            return None
        mask: Mask = winner.take(self._x.low, 1).take(self._y.low, 0)
        if len(rows):
            cells = self._candidates(logits, winner, rows, columns, noise)
            self._interpolate(mask, logits, cells, noise)
        return mask

    def _mixed(self, winner: Mask, certain: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which cells have corners that differ, or one that rounding may turn: bool [h, w]."""
        beside = winner[:, 1:] != winner[:, :-1]
        below = winner[1:] != winner[:-1]
        mixed = ~certain
        mixed[:, :-1] |= beside | ~certain[:, 1:]
        mixed[:-1] |= below | mixed[1:]
        return mixed & (self._y.count > 0)[:, None] & (self._x.count > 0)

    @staticmethod
    def _candidates(
        logits: FloatPlane, winner: Mask, rows: Positions, columns: Positions, noise: np.float32
    ) -> _MixedCells:
        """The classes that no winner of a corner beats, by more than rounding, at all four."""
        height, width = winner.shape
        below, right = np.minimum(rows + 1, height - 1), np.minimum(columns + 1, width - 1)
        corners = np.stack([y * width + x for y in (rows, below) for x in (columns, right)])
        planes = logits.reshape(len(logits), -1)
        values = [planes[:, corner] for corner in corners]
        beaten = np.zeros(values[0].shape, np.bool_)
        for winners in winner.reshape(-1)[corners]:
            everywhere = np.ones_like(beaten)
            for corner, value in zip(corners, values, strict=True):
                everywhere &= value < planes[winners, corner] - noise
            beaten |= everywhere
        candidates = len(logits) - np.count_nonzero(beaten, axis=0)
        order = np.argsort(-candidates, kind="stable")
        _, classes = np.nonzero(~beaten[:, order].T)
        return _MixedCells(corners[:, order], rows[order], columns[order], candidates[order], classes)

    def _interpolate(self, mask: Mask, logits: FloatPlane, cells: _MixedCells, noise: np.float32) -> None:
        """Fill the mixed cells of a mask, in all of them one row of pixels after the other."""
        cell_of, x = self._x.outputs_of(cells.columns)
        ranks = self._edges(logits, cells, cell_of, x)
        first_row, height = self._y.first[cells.rows][cell_of], self._y.count[cells.rows][cell_of]
        pixel = first_row * mask.shape[1] + x
        flat = mask.reshape(-1)
        doubtful: list[Positions] = []
        for step in range(int(height.max())):
            at, y, still = pixel + step * mask.shape[1], first_row + step, ranks
            if step >= height.min():  # some cells have no such row
                there = np.flatnonzero(height > step)
                at, y, still = at[there], y[there], [rank.some(there) for rank in ranks]
            flat[at], close = _strongest(still, self._y.near[y], self._y.far[y], noise)
            if close.any():
                doubtful.append(at[close])
        if doubtful:
            at = np.concatenate(doubtful)
            flat[at] = self._as_pytorch_rounds(logits, *np.divmod(at, mask.shape[1]))

    def _edges(self, logits: FloatPlane, cells: _MixedCells, cell_of: Positions, x: Positions) -> list[_Rank]:
        """The first candidates of all cells, the second ones of those that have two, and so on."""
        planes = logits.reshape(len(logits), -1)
        starts = np.cumsum(cells.candidates) - cells.candidates
        ranks = []
        for rank in range(int(cells.candidates[0])):
            count = int(np.searchsorted(-cells.candidates, -rank))  # cells with more candidates than this
            names = cells.classes[starts[:count] + rank]
            upper_left, upper_right, lower_left, lower_right = (
                planes[names, corner[:count]] for corner in cells.corners
            )
            of = cell_of[: np.searchsorted(cell_of, count)]
            near, far = self._x.near[x[: len(of)]], self._x.far[x[: len(of)]]
            above = near * upper_left[of] + far * upper_right[of]
            below = near * lower_left[of] + far * lower_right[of]
            ranks.append(_Rank(names[of].astype(mask_dtype(len(logits))), above, below))
        return ranks

    def _as_pytorch_rounds(self, logits: FloatPlane, y: Positions, x: Positions) -> Mask:
        """The winners of single pixels where rounding decides, with the rounding of PyTorch's kernel."""
        rows, columns = (self._y.low[y], self._y.high[y]), (self._x.low[x], self._x.high[x])
        above, below = (
            _fused(self._x.near[x], logits[:, row, columns[0]], self._x.far[x], logits[:, row, columns[1]])
            for row in rows
        )
        values = _fused(self._y.near[y], above, self._y.far[y], below)
        winners: Mask = values.argmax(0).astype(mask_dtype(len(logits)))
        return winners


def _fused(near: FloatPlane, first: FloatPlane, far: FloatPlane, second: FloatPlane) -> FloatPlane:
    """near * first + far * second, the first product fused with the addition; in float64 it is exact."""
    fused: FloatPlane = (near.astype(np.float64) * first + far * second).astype(np.float32)
    return fused


def strongest_two(logits: FloatPlane) -> tuple[Mask, FloatPlane, FloatPlane]:
    """The class of the largest logit (the first of equals), its logit, and the second largest.

    Args:
        logits: float32 [C, h, w]; with one class the second is minus infinity's stand-in, the smallest float.
    """
    winner = np.zeros(logits.shape[1:], mask_dtype(len(logits)))
    best, second = logits[0].copy(), np.full(logits.shape[1:], np.finfo(np.float32).min, np.float32)
    wins, index = np.empty(winner.shape, np.bool_), np.empty_like(winner)
    lesser = np.empty_like(best)
    for number, plane in enumerate(logits[1:], 1):
        np.greater(plane, best, out=wins)
        # indices only grow, so that the larger one is the later winner; a masked write takes longer
        np.multiply(wins.view(np.uint8), winner.dtype.type(number), out=index)
        np.maximum(winner, index, out=winner)
        np.minimum(plane, best, out=lesser)
        np.maximum(second, lesser, out=second)
        np.maximum(best, plane, out=best)
    return winner, best, second


def _strongest(
    ranks: list[_Rank], near: FloatPlane, far: FloatPlane, noise: np.float32
) -> tuple[Mask, NDArray[np.bool_]]:
    """The winners among the candidates of one pixel a column, and which of them rounding may have decided.

    Args:
        ranks: candidates, ascending: the first of equals wins.
        near: weights of their upper edges, float32 [columns].
        far: of the lower edges, likewise.
        noise: values nearer than this are close.
    """
    best = near * ranks[0].above + far * ranks[0].below
    winner, close = ranks[0].classes.copy(), np.zeros(len(best), np.bool_)
    for rank in ranks[1:]:
        count = len(rank.classes)
        value, leader = near[:count] * rank.above + far[:count] * rank.below, best[:count]
        np.copyto(winner[:count], rank.classes, where=value > leader)
        close[:count] |= np.abs(value - leader) <= noise
        np.maximum(leader, value, out=leader)
    return winner, close
