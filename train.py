"""Stage 4: feature tables to a trained checkpoint.

python train.py                                        # retrains checkpoints/final
python train.py -cp checkpoints/lite                   # another config
python train.py exp_name=mine train.epochs=50 seed=1   # hydra overrides
python train.py cross_validate=true                    # cross-validated figures, no checkpoint
"""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from scow.cli import TaskDone, config_folder, plain_config, run_hydra, run_script
from scow.files import replacing
from scow.training import Epoch, TrainConfig, cross_validation, train, train_config, write_cross_validation


@hydra.main(version_base="1.3", config_path="checkpoints/final", config_name="config")
def main(cfg: DictConfig) -> None:
    """Run the stage on the composed config."""
    raise TaskDone(run_script(lambda: run(cfg)))


def run(cfg: DictConfig) -> int:
    """Train, or cross-validate, and say how well."""
    plain = plain_config(cfg)
    config = train_config(plain)
    if plain.get("cross_validate"):
        return report_cross_validation(config)
    trained, folder = train(config, on_epoch=say_epoch)
    if folder.resolve() != config_folder(HydraConfig.get()).resolve():
        with replacing(folder / "config.yaml") as temporary:  # so that -cp finds what it needs beside model.pt
            OmegaConf.save(cfg, temporary)
    r = "undefined" if trained.kept.val_r is None else f"{trained.kept.val_r:.3f}"
    print(f"wrote {folder / 'model.pt'} and {folder / 'train_log.csv'}")
    print(f"kept epoch {trained.kept.epoch} of {len(trained.log)}: validation RMSE {trained.kept.val_rmse:.2f}, r {r}")
    return 0


def say_epoch(epoch: Epoch) -> None:
    """A line every tenth epoch."""
    if epoch.epoch == 1 or epoch.epoch % 10 == 0:
        print(f"epoch {epoch.epoch}: loss {epoch.train_loss:.4f}, validation RMSE {epoch.val_rmse:.2f}", flush=True)


def report_cross_validation(config: TrainConfig) -> int:
    """Cross-validate, print RMSE and r per repeat and their means, and write cross_validation.json."""
    result = cross_validation(
        config,
        on_fold=lambda repeat, fold: print(f"repeat {repeat + 1}, fold {fold + 1} done", file=sys.stderr, flush=True),
    )
    for number, repeat in enumerate(result.repeats, start=1):
        print(f"repeat {number}: {repeat}")
    path = write_cross_validation(config, result)
    print(f"mean of {config.cv.repeats} repeats of {config.cv.folds} folds: {result}")
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(run_hydra(main, Path(__file__)))
