from __future__ import annotations

import torch

from tests.oracles import relative_error, true_d
from tests.toy import Bent, Toy
from tests.trajweight.scorers.test_learning_to_reweight import ROWS, warm
from trajweight.scorers.meta_weight_net import WIDTH, new_net, raw_weights, teach


def shares(net: torch.nn.Module, losses: torch.Tensor) -> torch.Tensor:
    raw = torch.sigmoid(net(losses.float().unsqueeze(1))).flatten()
    return raw / raw.sum() * len(raw)


def test_the_network_has_one_input_and_a_hundred_hidden_units_and_its_weights_are_shares() -> None:
    net = new_net(0)

    assert [tuple(each.shape) for each in net.parameters()] == [
        (WIDTH, 1),
        (WIDTH,),
        (1, WIDTH),
        (1,),
    ]
    assert WIDTH == 100
    weights = raw_weights(net, torch.linspace(0, 9, 50))
    assert bool(((weights > 0) & (weights < 1)).all())


def test_its_gradient_is_that_of_the_validation_loss_through_the_step() -> None:
    inner, net, twin = warm(Bent().problem()), new_net(0), new_net(0)
    weights = shares(twin, inner.problem.evaluate(ROWS))
    (d,), _ = true_d(inner, [(ROWS, weights.detach().double())], at="theta_next")

    teach(net, inner, ROWS, times=1, learning_rate=1e-2, validation_size=64)

    (d.float() * weights).sum().backward()
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        if float(other.grad.norm()) > 1e-9:
            assert relative_error(one.grad, other.grad) < 1e-3


def test_the_step_is_made_with_the_new_weights() -> None:
    inner, again, net = warm(Bent().problem()), warm(Bent().problem()), new_net(0)
    losses = inner.problem.evaluate(ROWS)
    before = shares(net, losses).detach()

    teach(net, inner, ROWS, times=1, learning_rate=1e-1, validation_size=64)

    weights = shares(net, losses).detach()
    assert float((weights - before).abs().max()) > 1e-3
    again.step(ROWS, weights)
    for one, other in zip(inner.parameters, again.parameters, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


def test_where_wrong_rows_have_high_losses_it_learns_to_distrust_high_losses() -> None:
    toy = Toy(60)
    inner, net = warm(toy.problem(), size=16), new_net(0)

    teach(net, inner, toy.synthetic, times=5, learning_rate=1e-2, validation_size=64)

    with torch.no_grad():
        found = raw_weights(net, toy.problem().evaluate(toy.synthetic))
    assert found[60:].mean() > 1.2 * found[:60].mean()


def test_rows_of_one_loss_weigh_the_same() -> None:
    weights = raw_weights(new_net(1), torch.tensor([1.0, 2.0, 3.0, 1.0, 2.0, 3.0]))

    assert torch.equal(weights[:3], weights[3:])
    assert len(set(weights.tolist())) == 3


def test_the_seed_alone_decides_where_it_begins() -> None:
    state = torch.get_rng_state()

    one, two, other = (list(new_net(seed).parameters()) for seed in (7, 7, 8))

    assert all(map(torch.equal, one, two))
    assert not torch.equal(one[0], other[0])
    assert torch.equal(torch.get_rng_state(), state)
