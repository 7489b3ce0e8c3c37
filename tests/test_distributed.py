"""Several processes on one machine, over gloo."""

import pytest
import torch

from pocketclip import distributed
from pocketclip.errors import UserError
from processes import run_ranks


def test_without_torchrun_everything_is_a_no_op() -> None:
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.gather_objects("own") == ["own"]
    assert distributed.gather_numbers(3, 4) == [[3, 4]]
    assert distributed.on_main(lambda: 7) == 7
    rows = torch.ones(2, 3, requires_grad=True)
    assert distributed.gather(rows, [2]) is rows
    assert distributed.own_share(5) == slice(0, 5)


@pytest.mark.parametrize(("total", "size", "expected"), [(10, 3, [0, 3, 6, 10]), (2, 4, [0, 0, 1, 1, 2])])
def test_shares_differ_by_one_at_most(total: int, size: int, expected: list[int]) -> None:
    assert distributed.share_bounds(total, size) == expected


SIZES = [2, 0, 3]


def rows_of(rank: int) -> torch.Tensor:
    start = sum(SIZES[:rank])
    return torch.arange(start, start + SIZES[rank], dtype=torch.float64)[:, None] + 1


def gathered_and_summed(rank: int) -> dict[str, object]:
    rows = rows_of(rank).requires_grad_()
    together = distributed.gather(rows, SIZES)
    ((rank + 1) * together**2).sum().backward()
    values = torch.tensor([float(rank), -torch.inf if rank else 1.0], dtype=torch.float64, requires_grad=True)
    combined = distributed.log_sum_exp_over_ranks(values, SIZES)
    (combined * (rank + 1)).sum().backward()
    means = [torch.full((2,), float(rank)), torch.tensor(float(-rank))]
    distributed.average_in_place(means)
    return {
        "together": together.detach(),
        "grad": rows.grad,
        "combined": combined.detach(),
        "values_grad": values.grad,
        "means": means,
        "numbers": distributed.gather_numbers(rank, 10 * rank),
        "objects": distributed.gather_objects(f"rank {rank}"),
        "on_main": distributed.on_main(lambda: f"from {rank}"),
        "sum": distributed.sum_over_ranks(torch.tensor(rank), SIZES),
    }


@pytest.fixture(scope="module")
def outcomes() -> list[dict[str, object]]:
    return run_ranks(gathered_and_summed, 3)


def test_gather_brings_the_rows_of_all_ranks_with_exact_gradients(outcomes: list[dict[str, object]]) -> None:
    whole = torch.cat([rows_of(rank) for rank in range(3)])
    for rank, found in enumerate(outcomes):
        assert torch.equal(found["together"], whole)
        assert torch.allclose(found["grad"], 2 * rows_of(rank) * (1 + 2 + 3))  # every rank's loss counts


def test_log_sum_exp_over_ranks_equals_the_one_of_all_values(outcomes: list[dict[str, object]]) -> None:
    values = torch.tensor([[0.0, 1.0], [1.0, -torch.inf], [2.0, -torch.inf]], dtype=torch.float64, requires_grad=True)
    expected = values.logsumexp(0)
    (expected * (1 + 2 + 3)).sum().backward()
    for rank, found in enumerate(outcomes):
        assert torch.allclose(found["combined"], expected.detach())
        assert torch.allclose(found["values_grad"], values.grad[rank])


def test_small_things_travel(outcomes: list[dict[str, object]]) -> None:
    for found in outcomes:
        assert [mean.tolist() for mean in found["means"]] == [[1.0, 1.0], -1.0]
        assert found["numbers"] == [[0, 0], [1, 10], [2, 20]]
        assert found["objects"] == ["rank 0", "rank 1", "rank 2"]
        assert found["on_main"] == "from 0"
        assert int(found["sum"]) == 3


def refused_on_main(rank: int) -> str:
    def refuse() -> None:
        assert rank == 0, "only rank 0 may be asked"
        raise UserError("no room in the folder")

    with pytest.raises(UserError, match="no room") as error:
        distributed.on_main(refuse)
    return str(error.value)


def test_an_error_of_rank_0_is_raised_on_every_rank() -> None:
    assert run_ranks(refused_on_main, 2) == ["no room in the folder"] * 2
