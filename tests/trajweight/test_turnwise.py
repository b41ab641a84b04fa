from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.learned import learn
from tests.tokens import bench, token_rows
from tests.toy import Toy, search_of
from trajweight.bilevel import Course, Search
from trajweight.errors import RunError
from trajweight.estimators import Ghost
from trajweight.estimators.ghost import ghost_products
from trajweight.progress import Progress
from trajweight.turnwise import align_turns, alignment_of, packed, unpacked

# float64: the same sums in another order.
RTOL, ATOL = 1e-10, 1e-14
BATCH = 8


def random_like(linears, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    shapes = [linear.weight.shape for linear in linears]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def aligned(made, direction):
    parameters = [linear.weight for linear in made.linears]
    return alignment_of(made.losses, parameters, direction, batch_size=BATCH, progress=Progress())


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_the_parts_of_the_turns_sum_to_the_d_of_the_row(depth, seed) -> None:
    made = bench(token_rows(4, seed=seed), depth=depth)

    found = aligned(made, random_like(made.linears, seed))

    assert len(found.turns) > 1
    assert sum(one.d for one in found.turns) == pytest.approx(found.d, rel=RTOL, abs=ATOL)
    mask = made.losses.encoded[0].assistant_mask
    assert sum(one.n_tokens for one in found.turns) == sum(mask)


def test_the_d_of_every_row_is_the_ghost_product() -> None:
    made = bench(token_rows(5))
    direction = random_like(made.linears)

    found = aligned(made, direction)

    with ghost_products(made.linears, direction, batch_size=5) as products:
        made.losses.apart(range(5)).sum().backward()
    expected = (-products / BATCH).tolist()
    assert [found.d, *found.others] == pytest.approx(expected, rel=RTOL, abs=ATOL)


def test_the_part_of_a_turn_is_how_its_tokens_move_along_the_direction() -> None:
    made, eps = bench(token_rows(3)), 1e-6
    direction = random_like(made.linears)
    found = aligned(made, direction)

    def parts_at(step: float) -> torch.Tensor:
        with torch.no_grad():
            for linear, u in zip(made.linears, direction, strict=True):
                linear.weight.add_(step * u)
            return made.losses.by_turn(0)[2]

    ahead = parts_at(eps)
    behind = parts_at(-2 * eps)

    slope = (ahead - behind) / (2 * eps)
    # central differences err by the square of the step and by rounding over it
    assert [one.d for one in found.turns] == pytest.approx((-slope / BATCH).tolist(), rel=1e-5)


def test_the_loss_of_a_row_is_the_sum_of_the_parts_of_its_turns() -> None:
    made = bench(token_rows(6))

    for row, encoded in enumerate(made.losses.encoded):
        turns, counts, parts = made.losses.by_turn(row)

        torch.testing.assert_close(parts.sum(), made.losses.apart([row])[0], rtol=RTOL, atol=ATOL)
        said = [turn for turn in encoded.turn_of_token if turn >= 0]
        assert turns == sorted(set(said))
        assert counts == [said.count(turn) for turn in turns]


def test_the_course_is_what_the_next_step_of_the_estimator_would_look_along() -> None:
    toy = Toy(n_bad=40, dtype=torch.float64)
    search = search_of(toy, estimator=Ghost(validation_size=1000))
    for _ in range(5):
        search.step()
    rows, member = toy.synthetic[:16], search.members[0]

    course = search.course()

    assert course is not None
    torch.testing.assert_close(course.theta, [toy.linear.weight.detach()])
    losses = toy.losses(rows, toy.linear)
    expected = []
    for loss in losses:
        [gradient] = torch.autograd.grad(loss, [toy.linear.weight], retain_graph=True)
        expected.append(-float((gradient * course.direction[0]).sum()) / len(rows))
    estimate = member.running.step(rows, torch.ones(len(rows), dtype=torch.float64))
    assert estimate is not None
    assert estimate.d.tolist() == pytest.approx(expected, rel=RTOL, abs=ATOL)


def test_looking_at_the_course_moves_nothing() -> None:
    search = search_of(Toy(n_bad=40))
    for _ in range(3):
        search.step()
    before = [each.clone() for each in search.members[0].inner.parameters]
    lr = search.members[0].inner.optimizer.param_groups[0]["lr"]

    search.course()

    inner = search.members[0].inner
    torch.testing.assert_close(inner.parameters, before, rtol=0, atol=0)
    assert inner.optimizer.param_groups[0]["lr"] == lr
    assert all(parameter.grad is None for parameter in inner.parameters)


def test_a_course_that_is_not_finite_is_none_and_no_error() -> None:
    toy = Toy(n_bad=40)
    search = search_of(toy)
    search.step()
    toy.x[-1] = float("nan")  # a validation row

    for _ in range(6):  # more often than a search may skip steps
        assert search.course() is None


@pytest.mark.parametrize("vocabulary", [None, torch.tensor([2, 5, 9])])
def test_what_is_packed_comes_back_in_order(vocabulary) -> None:
    theta = [torch.full((2,), float(i)) for i in range(12)]
    course = Course(theta, [-each for each in theta])

    again, tokens = unpacked(dict(sorted(packed(course, vocabulary).items(), reverse=True)))

    torch.testing.assert_close(again.theta, theta)
    torch.testing.assert_close(again.direction, course.direction)
    assert (tokens is None) == (vocabulary is None)


def test_what_is_found_afterwards_is_what_the_search_saw_at_its_end(tmp_path, monkeypatch) -> None:
    seen: list[float] = []
    look = Search.course

    def watched(search: Search) -> Course | None:
        course, inner = look(search), search.members[0].inner
        assert course is not None
        for row in inner.problem.synthetic:
            gradients = torch.autograd.grad(inner.problem.apart([row])[0], inner.parameters)
            pairs = zip(gradients, course.direction, strict=True)
            total = sum(float((g * u).sum()) for g, u in pairs)
            seen.append(-total / inner.config.batch_size)
        return course

    monkeypatch.setattr(Search, "course", watched)
    run = learn(tmp_path)
    weights = run.table("weights").filter(origin="synthetic", split="train")
    names = weights["traj_id"].to_list()

    found = align_turns(run, run, names, progress=Progress())

    # the same in single precision, in passes of another shape
    assert [found.d, *found.others] == pytest.approx(seen, rel=1e-3, abs=1e-7)
    assert max(abs(d) for d in seen) > 1e-5
    assert sum(one.d for one in found.turns) == pytest.approx(found.d, rel=1e-4, abs=1e-8)

    tensors = run.direction()
    run.save_direction({name: each for name, each in tensors.items() if name != "theta.000000"})
    with pytest.raises(RunError, match="does not fit the adapter"):
        align_turns(run, run, names[:1], progress=Progress())

    path = run.folder / "config.toml"
    assert 'model = "tiny"' in path.read_text()
    (run.folder / "head.json").write_text(
        (run.folder / "head.json").read_text().replace('"tiny-0"', '"tiny-1"')
    )
    with pytest.raises(RunError, match="fingerprint tiny-1"):
        align_turns(run, replace(run), names[:1], progress=Progress())
