"""Tests of the training loop: files, stopping and resuming."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch

from ffcv_ssl.errors import CheckpointError, ConfigError, TrainingStopped
from ffcv_ssl.runs import RunRecord
from ffcv_ssl.runs.record import read_rows
from ffcv_ssl.ssl import (
    BYOL,
    EmpProjector,
    EmpSSL,
    Normalize,
    SimCLR,
    byol_predictor,
    resnet18,
    rising_momentum,
    simclr_projector,
)
from ffcv_ssl.train import (
    LogConfig,
    OptimConfig,
    TrainConfig,
    build_optimizer,
    fit,
    load_checkpoint,
)
from tests.reference.memory_loader import MemoryLoader

OPTIM = {
    "simclr": OptimConfig(name="sgd", lr=0.05, nesterov=True, weight_decay=1e-4, warmup=0.2),
    "emp_ssl": OptimConfig(
        name="lars", lr=0.3, nesterov=True, weight_decay=1e-4, eta=0.005, clip=True
    ),
    "byol": OptimConfig(name="lars", lr=0.05, weight_decay=1e-4, eta=0.06, warmup=0.1),
    "adam": OptimConfig(name="adam", lr=1e-3, weight_decay=1e-6),
    "adamw": OptimConfig(name="adamw", lr=1e-3, weight_decay=1e-2),
}


def small_method(name):
    """Return a ResNet-18 of width 2 with the head of a method; the weights are always the same."""
    torch.manual_seed(0)
    network = resnet18(width=2, stem="cifar_stride2")
    normalize = Normalize([127.5] * 3, [127.5] * 3)
    if name == "emp_ssl":
        return EmpSSL(network, EmpProjector(network.num_features, 16, 8), normalize)
    projector = simclr_projector(network.num_features, 16, 8)
    if name == "byol":
        return BYOL(network, projector, byol_predictor(8, 16), normalize, momentum=0.9)
    return SimCLR(network, projector, normalize, temperature=0.2)


class Run:
    """A run in `folder`, built from scratch as in a new process."""

    def __init__(self, folder, name="simclr", resume=False, loader=None, wandb=False, **train):
        self.optim = OPTIM[name]
        self.train = TrainConfig(
            **{"epochs": 3, "batch_size": 8, "precision": "float32", "resume": resume, **train}
        )
        log = LogConfig(out=str(folder), every=1, tensorboard=False, progress=False, wandb=wandb)
        self.folder = folder
        self.record = RunRecord(
            name, {"optim": self.optim, "train": self.train, "log": log}, resume=resume
        )
        self.method = small_method(name)
        self.loader = MemoryLoader() if loader is None else loader
        self.optimizer = build_optimizer(self.method, self.optim, 8)

    def fit(self, **options):
        with self.record:
            return fit(
                self.method,
                self.loader,
                self.optimizer,
                self.train,
                self.optim,
                self.record,
                **options,
            )

    def rows(self, columns=("step", "lr", "loss")):
        return [[row[name] for name in columns] for row in read_rows(self.folder / "train.csv")]


def stop_after(loader, step):
    """Make a loader send SIGTERM to this process when it yields the batch of a step."""
    batches_of = type(loader).__iter__

    class Stopping(type(loader)):
        def __iter__(self):
            for batch in batches_of(self):
                if self.epoch * len(self) + self.position == step:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

    loader.__class__ = Stopping
    return loader


@pytest.mark.parametrize("name", ["simclr", "emp_ssl", "byol"])
def test_fit__lowers_the_loss(tmp_path, name):
    """Training lowers the loss of each method, and the rows hold the scheduled rates."""
    run = Run(tmp_path, name, epochs=8)
    progress = run.fit()
    rows = run.rows()
    assert (progress.step, progress.images) == (32, 256)
    assert [row[0] for row in rows] == list(range(1, 33))
    assert sum(row[2] for row in rows[-4:]) < sum(row[2] for row in rows[:4])
    if name == "emp_ssl":
        assert rows[0][1] == pytest.approx(0.3)  # no warm-up: the first step has the full rate
        assert rows[16][1] == pytest.approx(0.15)  # half the rate after half the training
    assert (tmp_path / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["simclr", "emp_ssl", "byol", "adam", "adamw"])
@pytest.mark.parametrize("step", [3, 4, 6])
def test_fit__resumes_bit_for_bit(tmp_path, name, step):
    """A run stopped within or at the end of an epoch and resumed equals the unbroken run."""
    unbroken = Run(tmp_path / "unbroken", name)
    unbroken.fit()
    first = Run(tmp_path / "broken", name, loader=stop_after(MemoryLoader(), step))
    with pytest.raises(
        TrainingStopped, match=rf"after step {step} of 12.*train.resume=1"
    ) as stopped:
        first.fit()
    assert stopped.value.exit_status == 128 + signal.SIGTERM
    torch.manual_seed(99)  # the generators' state comes from the checkpoint
    second = Run(tmp_path / "broken", name, resume=True)
    progress = second.fit()
    assert progress.step == 12
    assert second.rows() == unbroken.rows()
    for key, value in unbroken.method.state_dict().items():
        assert torch.equal(value, second.method.state_dict()[key]), key


@pytest.mark.parametrize("name", ["simclr", "emp_ssl", "byol"])
def test_fit__recomputes_and_resumes_bit_for_bit(tmp_path, name):
    """A resumed run that recomputes activations equals the unbroken run that stores them."""
    unbroken = Run(tmp_path / "unbroken", name)
    unbroken.fit()
    with pytest.raises(TrainingStopped):
        Run(tmp_path / "broken", name, loader=stop_after(MemoryLoader(), 5), recompute=True).fit()
    second = Run(tmp_path / "broken", name, resume=True, recompute=True)
    second.fit()
    assert second.rows() == unbroken.rows()
    for key, value in unbroken.method.state_dict().items():
        assert torch.equal(value, second.method.state_dict()[key]), key


def test_fit__byol_target_follows_the_step(tmp_path):
    """The moving average follows each step once, with the fraction of training of its rate."""
    run = Run(tmp_path, "byol")
    shares, after_step = [], run.method.after_step

    def watched(share_done):
        shares.append((share_done, run.optimizer.param_groups[0]["lr"]))
        return after_step(share_done)

    run.method.after_step = watched
    run.fit()
    assert [share for share, _ in shares] == [step / 12 for step in range(12)]
    assert [lr for _, lr in shares] == [row[1] for row in run.rows()]
    assert [row[0] for row in run.rows(["momentum"])] == [
        rising_momentum(step / 12, 0.9) for step in range(12)
    ]


def test_fit__byol_target_sees_the_stepped_weights(tmp_path):
    """At momentum 0, the target has the online weights after the first step."""
    run = Run(tmp_path, "byol", epochs=1, loader=MemoryLoader(num_images=8))
    run.optim, run.method.momentum = replace(run.optim, warmup=0.0), 0.0
    before = run.method.projector[0].weight.clone()
    run.fit()
    assert not torch.equal(run.method.projector[0].weight, before)
    assert torch.equal(run.method.target_projector[0].weight, run.method.projector[0].weight)
    assert torch.equal(run.method.target_backbone.conv1.weight, run.method.backbone.conv1.weight)


def test_fit__byol_learns_without_collapse(tmp_path):
    """BYOL halves its loss without collapse; without predictor and target it collapses."""
    run = Run(tmp_path / "byol", "byol", epochs=25)
    run.fit()
    rows = run.rows(["loss", "target_variance"])
    assert sum(row[0] for row in rows[-4:]) < 0.5 * sum(row[0] for row in rows[:4])
    assert min(row[1] for row in rows) > 0.2

    control = Run(tmp_path / "control", "byol", epochs=25)
    control.method.predictor, control.method.momentum = torch.nn.Identity(), 0.0
    control.optimizer = build_optimizer(control.method, control.optim, 8)
    control.fit()
    assert control.rows(["target_variance"])[-1][0] < 0.05


def test_fit__resumes_bit_for_bit_in_bfloat16(tmp_path):
    """A run under autocast, stopped and resumed, equals the unbroken run."""
    unbroken = Run(tmp_path / "unbroken", precision="bfloat16")
    unbroken.fit()
    with pytest.raises(TrainingStopped):
        Run(tmp_path / "broken", precision="bfloat16", loader=stop_after(MemoryLoader(), 5)).fit()
    second = Run(tmp_path / "broken", precision="bfloat16", resume=True)
    second.fit()
    assert second.rows() == unbroken.rows()


def test_fit__gradient_scaler_changes_nothing_and_is_saved(tmp_path, monkeypatch):
    """A scaler by powers of two does not change a float32 run, and its state is restored."""
    plain = Run(tmp_path / "plain", "emp_ssl")
    plain.fit()
    monkeypatch.setattr(
        "ffcv_ssl.train.training.gradient_scaler",
        lambda *_: torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=4),
    )
    scaled = Run(tmp_path / "scaled", "emp_ssl", loader=stop_after(MemoryLoader(), 6))
    with pytest.raises(TrainingStopped):
        scaled.fit()
    saved = load_checkpoint(tmp_path / "scaled" / "checkpoint.pt")
    assert saved["scaler"]["scale"] == 2.0**11  # grown once in six steps
    resumed = Run(tmp_path / "scaled", "emp_ssl", resume=True)
    resumed.fit()
    assert resumed.rows() == plain.rows()


def test_fit__killed_run_repeats_the_steps_after_its_checkpoint(tmp_path):
    """Rows after the checkpoint are dropped and trained again with the same values."""
    unbroken = Run(tmp_path / "unbroken")
    unbroken.fit()
    with pytest.raises(TrainingStopped):
        Run(tmp_path / "killed", loader=stop_after(MemoryLoader(), 5)).fit()
    table = tmp_path / "killed" / "train.csv"
    later = (tmp_path / "unbroken" / "train.csv").read_text().splitlines()[6:9]
    # Steps 6 to 8 and an incomplete line, as after SIGKILL.
    table.write_text(table.read_text() + "\n".join(later) + "\n9,2.0,0.01")
    second = Run(tmp_path / "killed", resume=True)
    second.fit()
    assert second.rows() == unbroken.rows()


def test_fit__resumed_after_the_end_changes_nothing(tmp_path):
    """Resuming a finished run takes no step; with `extend` and more epochs it continues."""
    Run(tmp_path).fit()
    again = Run(tmp_path, resume=True)
    assert again.fit().step == 12
    assert Run(tmp_path, resume="extend", epochs=4).fit().step == 16


def test_fit__nan_ends_with_message_and_good_checkpoint(tmp_path):
    """A loss of NaN ends the run with status 1; the named checkpoint holds finite weights."""
    run = Run(tmp_path, checkpoint_minutes=0.0)
    weight = run.method.projector[0].weight

    def poison(_module, _inputs):
        if run.loader.position == 3:
            weight.data.fill_(torch.nan)

    run.method.register_forward_pre_hook(poison)
    with pytest.raises(
        TrainingStopped, match=r"loss is not finite at step 3 of 12.*checkpoint.pt, of step 2"
    ) as stopped:
        run.fit()
    assert stopped.value.exit_status == 1
    content = load_checkpoint(tmp_path / "checkpoint.pt")
    assert content["progress"]["step"] == 2
    assert all(t.isfinite().all() for t in content["method"].values())


def test_fit__bad_weights_are_never_saved(tmp_path):
    """A step that makes a weight infinite stops the run before the checkpoint is written."""
    run = Run(tmp_path, checkpoint_minutes=0.0)
    run.method.projector[0].weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(TrainingStopped, match="a weight is not finite at step 1"):
        run.fit()
    assert load_checkpoint(tmp_path / "checkpoint.pt")["progress"]["step"] == 0


def test_fit__loader_error_saves_first(tmp_path):
    """A loader error ends the run with its message and status 1; the run can be resumed."""
    unbroken = Run(tmp_path / "unbroken")
    unbroken.fit()
    with pytest.raises(TrainingStopped, match="sample 17 cannot be read") as stopped:
        Run(tmp_path / "failed", loader=MemoryLoader(fail_at=6)).fit()
    assert stopped.value.exit_status == 1
    assert isinstance(stopped.value.__cause__, OSError)
    second = Run(tmp_path / "failed", resume=True)
    second.fit()
    assert second.rows() == unbroken.rows()


def test_fit__errors_of_the_method_pass_unchanged(tmp_path):
    """An error of the method is not reported as one of the loader."""
    with pytest.raises(ConfigError, match="at least 2 views"):
        Run(tmp_path, loader=MemoryLoader(num_views=1)).fit()
    assert load_checkpoint(tmp_path / "checkpoint.pt")["progress"]["step"] == 0


def test_fit__refuses_a_file_without_batches(tmp_path):
    """Fewer images than a batch raise a ConfigError with the option to change."""
    with pytest.raises(ConfigError, match="batch_size"):
        Run(tmp_path, loader=MemoryLoader(num_images=7)).fit()


def test_fit__time_budget_ends_it_and_the_rate_reaches_its_end(tmp_path):
    """A time limit ends the run, and the learning rate has decayed by then."""
    run = Run(tmp_path, epochs=10_000, minutes=0.01)
    progress = run.fit()
    assert 0.6 <= progress.seconds < 10
    assert progress.step < 40_000
    assert run.rows()[-1][1] < 0.3 * 0.05


def test_fit__evaluates_evenly_from_the_untrained_network_on(tmp_path):
    """Four evaluations of a 12-step run follow steps 0, 3, 6 and 9, with a frozen network."""
    run = Run(tmp_path)
    modes = []

    def evaluate():
        modes.append((run.method.training, torch.is_grad_enabled()))
        return {"knn": 0.1 * len(modes)}

    run.fit(evaluate=evaluate, times=4)
    rows = read_rows(tmp_path / "eval.csv")
    assert [row["step"] for row in rows] == [0, 3, 6, 9]
    assert [row["knn"] for row in rows] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert modes == [(False, False)] * 4
    assert run.method.training


def test_fit__makes_a_pending_evaluation_after_a_resume(tmp_path):
    """A resumed run makes the evaluation that was due at the stop, and repeats none."""
    made = []

    def evaluate():
        made.append(1)
        return {"knn": 0.5}

    with pytest.raises(TrainingStopped):
        Run(tmp_path, loader=stop_after(MemoryLoader(), 6)).fit(evaluate=evaluate, times=4)
    assert [row["step"] for row in read_rows(tmp_path / "eval.csv")] == [0, 3]
    with pytest.raises(TrainingStopped):
        Run(tmp_path, resume=True, loader=stop_after(MemoryLoader(), 7)).fit(
            evaluate=evaluate, times=4
        )
    Run(tmp_path, resume=True).fit(evaluate=evaluate, times=4)
    assert [row["step"] for row in read_rows(tmp_path / "eval.csv")] == [0, 3, 6, 9]
    assert len(made) == 4


def test_fit__evaluation_does_not_change_the_training(tmp_path):
    """The loss curve with evaluations equals the one without."""
    plain, watched = Run(tmp_path / "plain"), Run(tmp_path / "watched")
    plain.fit()
    views = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    watched.fit(evaluate=lambda: {"mean": watched.method.features(views).mean().item()}, times=6)
    assert watched.rows() == plain.rows()


def test_checkpoint__of_another_model_or_loader_is_refused(tmp_path):
    """A checkpoint of another model, and a file that is not a checkpoint, raise."""
    Run(tmp_path).fit()
    other = Run(tmp_path, resume=True)
    other.method.projector[0] = torch.nn.Linear(16, 5)
    with pytest.raises(CheckpointError, match=r"checkpoint.pt: the checkpoint does not fit"):
        other.fit()
    (tmp_path / "checkpoint.pt").write_bytes(b"PK not a checkpoint")
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        Run(tmp_path, resume=True).fit()


def test_record__refuses_a_used_folder_and_another_configuration(tmp_path):
    """A folder with a run is not overwritten, and continues only with the same configuration."""
    Run(tmp_path).fit()
    with pytest.raises(ConfigError, match=r"holds a run already.*train.resume=1"):
        Run(tmp_path)
    with pytest.raises(ConfigError, match=r"train.precision=float32, not bfloat16"):
        Run(tmp_path, resume=True, precision="bfloat16")
    with pytest.raises(ConfigError, match="holds a run of simclr"):
        Run(tmp_path, name="emp_ssl", resume=True)


def test_record__writes_config_result_and_tensorboard(tmp_path):
    """The folder holds config.yaml, result.json with versions, and TensorBoard events."""
    run = Run(tmp_path)
    run.record.log = LogConfig(out=str(tmp_path), every=4, tensorboard=True, progress=False)
    run.fit()
    run.record.write_result({"scores": {"knn": 0.5}})
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["scores"] == {"knn": 0.5}
    assert result["config"]["optim"]["lr"] == 0.05
    assert result["made_by"]["torch"] == torch.__version__
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
    assert [row[0] for row in run.rows()] == [4, 8, 12]
    assert "method: simclr" in (tmp_path / "config.yaml").read_text()
