"""The trainer: one step with everything around the losses, and what it refuses to go on from."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from devudp_model.checkpoint import bundled, load_checkpoint
from devudp_model.network.generator import Generator
from devudp_model.restoring.coarse_to_fine import coarse_to_fine
from tests.training.training_run import changed, copied, staged, unpaired
from training.config import Config, ConfigError, ModelConfig
from training.config.recipes import load_recipe, parse_overrides
from training.data.dataset import Key, UnpairedImages
from training.data.loader import collate
from training.data.synthesis import render_batch
from training.method.networks import Discriminator, start_from
from training.method.step import Networks, train_step
from training.run import distributed
from training.run.distributed import make_accelerator
from training.run.state import check_architecture
from training.run.trainer import NonFiniteLoss, Trainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def accelerator() -> Iterator[Accelerator]:
    yield make_accelerator(parse_overrides(load_recipe("unpaired"), ["--speed.device", "cpu"]))


def parsed(arguments: list[str]) -> Config:
    return parse_overrides(load_recipe(arguments[0]), arguments[1:])


def trainer_of(accelerator: Accelerator, arguments: list[str]) -> Trainer:
    config = parsed(arguments)
    return Trainer(config, accelerator, UnpairedImages(config))


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["devudp", "devudp-dt"])
def test_steps_are_those_of_a_plain_loop(variant: str, accelerator: Accelerator, tmp_path: Path):
    """Five steps with averaging, frozen BatchNorm, warm-up and a halved rate, bit for bit."""
    extra = "--ema 0.9 --schedule.length 5 --schedule.halve-every 2 --schedule.freeze-norm 3"
    extra += f" --schedule.warm-up 2 --data.noise 0.1 --model.variant {variant}"
    trainer = trainer_of(accelerator, [*unpaired(tmp_path), *extra.split()])
    config, images = trainer.config, trainer.images
    torch.manual_seed(config.seed)
    G, G_inv, D = Generator(variant, 4, 1), Generator(variant, 4, 1), Discriminator(4)  # pyright: ignore
    ema = copy.deepcopy(G)
    opt_G = torch.optim.Adam([*G.parameters(), *G_inv.parameters()], 2e-4, (0.5, 0.999))
    opt_D = torch.optim.Adam(D.parameters(), 2e-4, (0.5, 0.999))
    for step, loaded in enumerate(trainer.loader()):
        trainer.advance(loaded)
        rate = 2e-4 * 0.5 ** (step // 2) * (0.5 if step == 0 else 1)
        for group in (*opt_G.param_groups, *opt_D.param_groups):
            group["lr"] = rate
        if step >= 3:
            G.eval()
            G_inv.eval()
        mine = collate([images[Key(0, 2 * step + k)] for k in range(2)])
        batch = render_batch(mine.A, mine.B, config.data, CPU)
        train_step(Networks(G, G_inv, D, opt_G, opt_D), [batch], config.loss)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, mean in ema.state_dict().items():
            value = G.state_dict()[name]
            mean.lerp_(value, 1 - decay) if mean.is_floating_point() else mean.copy_(value)
    assert trainer.step == 5
    state = trainer.state()
    for key, network in {"G": G, "G_inv": G_inv, "D": D, "ema": ema}.items():
        for name, value in network.state_dict().items():
            assert torch.equal(state[key][name], value), (key, name)


@pytest.mark.slow
def test_D_of_a_trainer_learns_from_its_pool(accelerator: Accelerator, tmp_path: Path):
    """With a full pool, D is shown earlier images in place of half of the new ones."""
    with_pool, without = (
        trainer_of(accelerator, [*unpaired(tmp_path), "--pool", str(size)]) for size in (2, 0)
    )
    for trainer in (with_pool, without):
        for _, loaded in zip(range(4), trainer.loader(), strict=False):
            trainer.advance(loaded)
    assert len(with_pool.pool.images) == 2 and not without.pool.images
    assert changed(copied(with_pool.D), without.D)


def test_a_part_of_a_batch_at_a_time(accelerator: Accelerator, tmp_path: Path):
    arguments = [*unpaired(tmp_path), "--batch", "4", "--schedule.accumulate", "2"]
    trainer = trainer_of(accelerator, arguments)
    parts = trainer.parts_of(next(iter(trainer.loader())))
    assert [part.A.shape[0] for part in parts] == [2, 2]
    assert all(part.reblur_target is None for part in parts)


def test_training_on_what_coarser_scales_leave(accelerator: Accelerator, tmp_path: Path):
    """In turn the inputs themselves, with a half, with a quarter and half; B's only if needed."""
    arguments = [*staged("devudp-dt", tmp_path, 0.0025), "--data.coarse-inputs"]
    arguments += ["--loss.s-branch-every", "2", "--batch", "2"]
    trainer = trainer_of(accelerator, arguments)
    with torch.no_grad():
        for parameter in trainer.G.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # a new network is the identity
    trainer.G.train()
    before = copy.deepcopy(trainer.G.state_dict())
    loaded = next(iter(trainer.loader()))
    batch = render_batch(loaded.A, loaded.B, trainer.span.config.data, CPU)
    A: list[float] = []
    B: list[float] = []
    for trainer.step in range(6):
        given = trainer.from_coarser(batch)
        assert given.A is batch.A and given.B is batch.B
        A.append((given.A_input - batch.A_input).abs().mean().item())
        B.append((given.B_input - batch.B_input).abs().mean().item())
    assert A[0] == A[3] == 0 < min(A[1], A[2]) and A[1] != A[2] and A[1:3] == A[4:]
    assert B[2] > 0 and B[4] > 0 and B[0] == B[1] == B[3] == B[5] == 0
    assert trainer.G.training
    same = trainer.G.state_dict()
    assert all(torch.equal(before[name], same[name]) for name in before)

    trainer.step = 1  # what the task "deblur" does with one scale
    G = copy.deepcopy(trainer.G).eval()
    with torch.no_grad():
        expected = coarse_to_fine(
            lambda x: (G(x * 2 - 1) + 1) / 2, (batch.A_input + 1) / 2, (2,)
        ) * 2 - 1  # fmt: skip
    torch.testing.assert_close(trainer.from_coarser(batch).A_input, expected)


def test_average_where_only_a_stage_asks_for_it(accelerator: Accelerator, tmp_path: Path):
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        "[schedule]\nunit = 'steps'\n[[stages]]\nname = 'a'\nlength = 2\n"
        "[[stages]]\nname = 'b'\nlength = 2\nema = 0.9\n"
    )
    arguments = unpaired(tmp_path)
    trainer = trainer_of(accelerator, [str(recipe), *arguments[1:]])
    equal = []
    for loaded in trainer.loader():
        trainer.advance(loaded)
        equal.append(not changed(copied(trainer.G), trainer.restored_by))
    assert equal == [True, True, False, False]


def test_a_loss_that_is_not_finite_touches_nothing(accelerator: Accelerator, tmp_path: Path):
    trainer = trainer_of(accelerator, unpaired(tmp_path))
    loaded = next(iter(trainer.loader()))
    with torch.no_grad():
        trainer.D.get_parameter("layers.0.bias").fill_(float("inf"))
    before = copied(trainer.G)
    with pytest.raises(NonFiniteLoss):
        trainer.advance(loaded)
    assert trainer.step == 0 and not changed(before, trainer.G)


# What it starts from


@pytest.mark.slow
def test_starts_from_a_shipped_checkpoint_by_its_name(accelerator: Accelerator, tmp_path: Path):
    shipped = load_checkpoint(bundled("devudp-dt"), fold=False).generator
    G = Generator("devudp-dt", shipped.width, shipped.depth)
    start_from(G, "devudp-dt")
    assert not changed(copied(shipped), G)
    with pytest.raises(ConfigError, match="has width and depth"):
        start_from(Generator("devudp-dt", shipped.width * 2, shipped.depth), "devudp-dt")
    with pytest.raises(ConfigError, match="asks for \\(4, 1\\)"):
        trainer_of(accelerator, [*unpaired(tmp_path), "--model.init", "devudp-dt"])


def test_of_the_other_variant_only_convolutions_are_taken(tmp_path: Path):
    from training.export import export_weights

    torch.manual_seed(3)
    source = Generator("devudp", 4, 1)
    path = export_weights(source.state_dict(), "devudp", {}, tmp_path / "g.safetensors")
    G = Generator("devudp-dt", 4, 1)
    before = copied(G)
    start_from(G, str(path))
    for name, value in G.named_parameters():
        taken = source.get_parameter(name) if ".conv" in name else before[name]
        torch.testing.assert_close(value, taken, atol=1e-3, rtol=1e-2)  # half precision
    assert (G.get_parameter("head.weight") == 0).all()  # still the identity
    one_sided = Generator("devudp", 4, 1)
    start_from(one_sided, str(path))
    torch.testing.assert_close(one_sided.head.weight, source.head.weight, atol=1e-3, rtol=1e-2)


def test_states_of_another_architecture_or_optimizer(accelerator: Accelerator, tmp_path: Path):
    arguments = unpaired(tmp_path)
    trainer = trainer_of(accelerator, arguments)
    state = trainer.state()
    path = Path("s.pt")
    wider = parsed([*arguments, "--model.width", "6"])
    with pytest.raises(ConfigError, match="another architecture: width 4 there, 6 here"):
        check_architecture(path, state, wider)
    with pytest.raises(ConfigError, match="is a state of Adam"):
        check_architecture(path, state, parsed([*arguments, "--schedule.muon", "3"]))
    # Where G started from says nothing of what it is.
    check_architecture(path, state, parsed([*arguments, "--model.no-zero-head"]))
    with pytest.raises(ConfigError, match="the run ends at 6000"):
        trainer.load(path, state | {"step": 6001})


# Processes


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distributed.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="finds no GPU"):
        make_accelerator(parse_overrides(load_recipe("unpaired"), ["--speed.device", "cuda"]))


def test_model_config_knows_its_shortcut():
    assert ModelConfig("devudp-dt").has_shortcut and not ModelConfig("devudp").has_shortcut
    assert not ModelConfig("devudp-dt", shortcut=False).has_shortcut
