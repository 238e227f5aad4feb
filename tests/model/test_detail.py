"""The input's own detail in the model's image, by its definition."""

import torch

from devudp_model.ops.detail import detail_transfer

from .engine_network import random_image


def test_detail_transfer_is_a_guided_filter() -> None:
    """Ridge regression in each window, written out, and the mean of the lines at each pixel."""
    image, output = (random_image(1, 1, 7, 8, seed=seed) for seed in (1, 2))
    x, y = image[0, 0].double(), output[0, 0].double()

    def around(row: int, column: int) -> tuple[slice, slice]:
        return slice(max(row - 2, 0), row + 3), slice(max(column - 2, 0), column + 3)

    gain, offset = torch.zeros(7, 8).double(), torch.zeros(7, 8).double()
    for row in range(7):
        for column in range(8):
            guide, given = x[around(row, column)], y[around(row, column)]
            covariance = ((guide - guide.mean()) * (given - given.mean())).mean()
            gain[row, column] = covariance / (guide.var(correction=0) + 0.02)
            offset[row, column] = given.mean() - gain[row, column] * guide.mean()
    expected = torch.zeros(7, 8).double()
    for row in range(7):
        for column in range(8):
            place = around(row, column)
            expected[row, column] = gain[place].mean() * x[row, column] + offset[place].mean()
    result = detail_transfer(image, output, torch.full((1, 1, 1, 1), 0.02))
    torch.testing.assert_close(result[0, 0].double(), expected, atol=1e-5, rtol=0)
