from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader

from kdrobust.data import Arrays, Augmentation, Batch, DataModule, Digits, ImageFolder
from kdrobust.errors import CheckpointError, DataError, UsageError


def batches(data, epoch=0):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def same(first, second):
    return all(
        torch.equal(a.inputs, b.inputs) and torch.equal(a.labels, b.labels) and torch.equal(a.indices, b.indices)
        for a, b in zip(first, second, strict=True)
    )


class TestPrepare:
    def test_once(self, toy, module):
        source = toy()
        data = module(source)
        data.prepare()
        data.prepare()
        data.prepare_data()
        data.setup("fit")
        assert source.loads == 1
        assert data.spec.shape == (3, 5, 4)
        assert data.spec.classes == 3
        assert data.spec.class_names == ("0", "1", "2")
        assert len(data.spec.mean) == len(data.spec.std) == 3

    def test_members_prepare_by_themselves(self, module):
        assert module().spec.classes == 3
        assert len(module().split("train")) == 81
        assert len(module().fingerprint) == 64
        with pytest.raises(ValueError, match="split: expected one of train, validation, test, got 'val'"):
            module().split("val")

    def test_statistics_are_of_the_training_split_only(self, module):
        data = module()
        pixels = data.split("train").pixels(data.split("train").indices).double()
        assert data.spec.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=1e-6)
        assert data.spec.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist(), abs=1e-6)

    def test_bad_data_are_refused(self, toy, module):
        source = toy()
        source.fields["x_train"] = source.fields["x_train"].astype(np.float32)
        with pytest.raises(DataError, match="divide by 255"):
            module(source).prepare()

    def test_digits(self):
        data = DataModule(source=Digits(), name="digits")
        assert data.spec.shape == (1, 8, 8)
        assert [len(data.split(name)) for name in ("train", "validation", "test")] == [1131, 126, 540]
        counts = data.split("validation").labels.bincount()
        assert counts.min() >= 12
        assert counts.max() <= 13

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
            ({"eval_batch_size": -1}, "eval_batch_size: expected at least 1, got -1"),
            ({"limit_test": 0}, "limit_test: expected at least 1, got 0"),
            ({"validation_fraction": 0}, "validation_fraction: expected a number between 0 and 1"),
            ({"validation_fraction": 1.5}, "validation_fraction: expected a number between 0 and 1"),
            ({"loader": "disk"}, "loader: expected memory or workers, got 'disk'"),
            ({"num_workers": 2}, "num_workers: 2 needs loader=workers"),
            ({"num_workers": -1, "loader": "workers"}, "num_workers: -1"),
        ],
    )
    def test_arguments_are_checked_at_once(self, module, given, message):
        with pytest.raises(ValueError, match=f"^{message}"):
            module(**given)


class TestFingerprint:
    def test_ignores_how_batches_are_made(self, module):
        first = module().fingerprint
        for given in (
            {"seed": 1},
            {"batch_size": 3},
            {"eval_batch_size": 2},
            {"augmentation": Augmentation(flip=True)},
            {"loader": "workers"},
            {"name": "other"},
        ):
            assert module(**given).fingerprint == first

    def test_sees_data_and_split(self, toy, module):
        fingerprints = [
            module(**given).fingerprint
            for given in (
                {},
                {"split_seed": 1},
                {"validation_fraction": 0.2},
                {"limit_train": 40},
                {"limit_test": 5},
                {"source": toy(seed=1)},
                {"source": toy(dtype=np.float32)},
            )
        ]
        for key in ("x_train", "x_test", "y_test"):
            source = toy()
            source.fields[key] = source.fields[key].copy()
            if key == "y_test":
                source.fields[key][[0, 7]] = source.fields[key][[7, 0]]
            else:
                source.fields[key][3, 0, 0, 0] ^= 1
            fingerprints.append(module(source).fingerprint)
        assert len(set(fingerprints)) == len(fingerprints)


class TestBatches:
    def test_training_batches_are_raw_equal_and_addressed(self, module):
        data = module()
        loader = data.train_dataloader()
        assert isinstance(loader, DataLoader)
        made = list(loader)
        assert len(loader) == len(made) == 10
        train = data.split("train")
        for batch in made:
            assert isinstance(batch, Batch)
            assert batch.inputs.dtype == torch.uint8
            assert len(batch) == 8
            assert torch.equal(batch.inputs, train.inputs[batch.indices])
            assert torch.equal(batch.labels, train.labels[batch.indices])
            assert batch.outputs == {}

    def test_an_epoch_is_the_same_whatever_ran_before(self, module):
        data = module()
        loader = data.train_dataloader()
        for epoch in range(4):
            loader.sampler.set_epoch(epoch)
            made = list(loader)
        torch.manual_seed(5)
        assert same(batches(module(), epoch=3), made)
        assert not torch.equal(batches(module(), epoch=2)[0].indices, made[0].indices)
        assert not torch.equal(batches(module(seed=1), epoch=3)[0].labels, made[0].labels)

    def test_evaluation_sees_all_in_order(self, module):
        data = module(eval_batch_size=4)
        for loader, name in ((data.val_dataloader(), "validation"), (data.test_dataloader(), "test")):
            made = list(loader)
            assert torch.equal(torch.cat([batch.indices for batch in made]), data.split(name).indices)
            assert torch.equal(torch.cat([batch.inputs for batch in made]), data.split(name).inputs)
            assert max(len(batch) for batch in made) <= 4

    def test_two_ranks_share_the_test_set(self, module, monkeypatch):
        data = module(eval_batch_size=4)
        seen = []
        for rank in range(2):
            monkeypatch.setattr("kdrobust.distributed.sampler.position", lambda rank=rank: (rank, 2))
            seen += torch.cat([batch.indices for batch in data.test_dataloader()]).tolist()
        assert sorted(seen) == list(range(18))

    def test_more_processes_than_samples(self, module, monkeypatch):
        monkeypatch.setattr("kdrobust.data.module.position", lambda: (0, 32))
        with pytest.raises(DataError, match=r"toy: 18 test samples for 32 processes; set trainer\.devices=18"):
            module().test_dataloader()


class TestProcess:
    def test_bytes_become_unit_floats(self, module):
        data = module()
        (batch, *_) = batches(data)
        raw = batch.inputs.clone()
        out = data.process(batch, training=True)
        assert out.inputs.dtype == torch.float32
        assert torch.equal(out.inputs, raw.float() / 255)

    def test_floats_stay_exactly_what_they_are(self):
        data = DataModule(source=Digits(), name="digits", limit_train=20, limit_validation=10)
        (batch,) = batches(data)
        steps = data.process(batch, training=True).inputs * 16
        assert torch.equal(steps, steps.round())

    def test_training_is_augmented_by_sample_and_epoch(self, module):
        def augmented(epoch, order_epoch=0, **given):
            data = module(augmentation=Augmentation(crop_padding=1, flip=True), **given)
            rows = {}
            for batch in batches(data, order_epoch):
                out = data.process(batch, training=True, epoch=epoch)
                rows.update({int(i): row for i, row in zip(out.indices, out.inputs, strict=True)})
            return rows

        first = augmented(2)
        other_batches = augmented(2, order_epoch=5, batch_size=3)
        common = set(first) & set(other_batches)
        assert len(common) > 50
        assert all(torch.equal(first[i], other_batches[i]) for i in common)
        for other in (augmented(3), augmented(2, seed=1)):
            assert not all(torch.equal(first[i], other[i]) for i in set(first) & set(other))

    def test_evaluation_is_not_augmented(self, module):
        data = module(augmentation=Augmentation(crop_padding=1, flip=True, cutout=2))
        (batch,) = module(augmentation=Augmentation(cutout=2), eval_batch_size=100).test_dataloader()
        assert torch.equal(data.process(batch, training=False).inputs, data.split("test").pixels(torch.arange(18)))

    def test_without_a_trainer_the_hook_evaluates(self, module):
        data = module(augmentation=Augmentation(cutout=2))
        (batch, *_) = batches(data)
        expected = batch.inputs.float() / 255
        assert torch.equal(data.on_after_batch_transfer(batch, 0).inputs, expected)

    def test_several_augmentations_in_order(self, module):
        def darken(inputs, keys, *, seed):
            return inputs // 2

        def invert(inputs, keys, *, seed):
            return 255 - inputs

        (batch, *_) = batches(module())
        expected = (255 - batch.inputs // 2).float() / 255
        out = module(augmentation=[darken, Augmentation(), invert]).process(batch, training=True)
        assert torch.equal(out.inputs, expected)

    def test_augmentation_is_for_images(self, module):
        class Vectors:
            def load(self, root):
                labels = np.arange(20) % 2
                return Arrays(
                    x_train=np.zeros((20, 7)), y_train=labels, x_test=np.zeros((20, 7)), y_test=labels, origin="toy"
                )

        assert module(Vectors()).spec.shape == (7,)
        with pytest.raises(UsageError, match=r"data\.augmentation: for images only, and samples have shape \(7,\)"):
            module(Vectors(), augmentation=Augmentation(flip=True)).prepare()


class TestOutputs:
    def outputs(self, **sizes):
        return {
            split: {"teacher.clean": torch.arange(size * 3.0).view(size, 3)}
            for split, size in {"train": 81, "validation": 9, "test": 18, **sizes}.items()
        }

    def test_batches_carry_their_rows(self, module):
        data = module()
        data.attach_outputs(self.outputs())
        for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
            for batch in loader:
                assert torch.equal(batch.outputs["teacher.clean"][:, 0], batch.indices * 3.0)

    @pytest.mark.parametrize("split", ["train", "validation", "test"])
    def test_another_length(self, module, split):
        with pytest.raises(CheckpointError, match=rf"{split}/teacher\.clean has shape \(5, 3\), toy needs \(\d+, 3\)"):
            module().attach_outputs(self.outputs(**{split: 5}))

    def test_another_number_of_classes(self, module):
        with pytest.raises(CheckpointError, match=r"has shape \(18, 4\), toy needs \(18, 3\)"):
            module().attach_outputs({"test": {"teacher.clean": torch.zeros(18, 4)}})

    def test_another_split(self, module):
        with pytest.raises(CheckpointError, match="no split 'val'"):
            module().attach_outputs({"val": {}})

    def test_augmented_training_is_refused(self, module):
        data = module(augmentation=Augmentation(flip=True))
        with pytest.raises(UsageError, match=r"set data\.augmentation=null, or use a live teacher"):
            data.attach_outputs(self.outputs())
        data.attach_outputs({"test": self.outputs()["test"]})
        module(augmentation=Augmentation()).attach_outputs(self.outputs())


@pytest.fixture
def folder(tmp_path):
    draw = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (5, 5, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")
    return tmp_path


class TestWorkers:
    def make(self, folder, **given):
        return DataModule(source=ImageFolder(path=folder), name="f", batch_size=5, eval_batch_size=3, **given)

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_batches_are_those_of_the_memory_path(self, folder, num_workers):
        memory = self.make(folder)
        workers = self.make(folder, loader="workers", num_workers=num_workers)
        assert memory.fingerprint == workers.fingerprint
        assert memory.spec == workers.spec
        assert not isinstance(workers.split("train").store, torch.Tensor)
        assert torch.equal(memory.split("test").inputs, workers.split("test").inputs)
        loaders = [data.train_dataloader() for data in (memory, workers)]
        for epoch in (0, 3):
            for loader in loaders:
                loader.sampler.set_epoch(epoch)
            assert same(*map(list, loaders))
        assert same(list(memory.val_dataloader()), list(workers.val_dataloader()))


class Recorder(pl.LightningModule):
    """Writes down what reaches the steps."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(60, 3)
        self.trained = {}
        self.validated = []

    def training_step(self, batch, batch_idx):
        self.trained.setdefault(self.current_epoch, []).append(batch)
        logits = self.layer(batch.inputs.flatten(1))
        return torch.nn.functional.cross_entropy(logits, batch.labels)

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAtEpochStart(pl.Callback):
    def __init__(self, path):
        self.path = path

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            # Lightning would take the last epoch's batch counter for this one's, and skip the epoch on resuming
            trainer.fit_loop.epoch_loop.batch_progress.reset_on_run()
            trainer.save_checkpoint(self.path)


class TestLightning:
    def fit(self, data, folder, *, epochs=4, resume=None, **settings):
        recorder = Recorder()
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            logger=False,
            callbacks=[SaveAtEpochStart(folder / "last.ckpt")],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=1,
            default_root_dir=folder,
            **settings,
        )
        trainer.fit(recorder, datamodule=data, ckpt_path=resume, weights_only=True)
        return recorder

    def test_epochs_are_shuffled_augmented_and_resumable(self, module, tmp_path):
        def make():
            return module(augmentation=Augmentation(crop_padding=1, flip=True))

        whole = self.fit(make(), tmp_path)
        resumed = self.fit(make(), tmp_path, resume=tmp_path / "last.ckpt")
        assert list(whole.trained) == [0, 1, 2, 3]
        assert list(resumed.trained) == [2, 3]
        for epoch, seen in whole.trained.items():
            data = make()
            expected = [data.process(batch, training=True, epoch=epoch) for batch in batches(data, epoch)]
            assert same(seen, expected)
            if epoch >= 2:
                assert same(resumed.trained[epoch], seen)
        assert torch.equal(resumed.layer.weight, whole.layer.weight)
        # sanity check and every validation: all samples, as they are
        data = make()
        expected = [data.process(batch, training=False) for batch in data.val_dataloader()]
        assert len(whole.validated) % len(expected) in (0, 1)
        assert same(whole.validated[-len(expected) :], expected)

    @pytest.mark.parametrize(
        ("precision", "dtype"), [("64-true", torch.float64), ("bf16-mixed", torch.float32), ("32-true", torch.float32)]
    )
    def test_precision(self, module, tmp_path, precision, dtype):
        recorder = self.fit(module(), tmp_path, epochs=1, precision=precision)
        assert {batch.inputs.dtype for batch in recorder.trained[0]} == {dtype}
        assert math.isfinite(float(recorder.layer.weight.detach().sum()))


def test_batches_can_travel_between_processes(module):
    (batch, *_) = batches(module())
    assert same([pickle.loads(pickle.dumps(batch))], [batch])
