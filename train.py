"""Stage 4: feature tables to a trained checkpoint.

python train.py                                # retrains checkpoints/final
python train.py -cp checkpoints/published      # the transformer, as published
python train.py exp_name=mine model.c=0.01     # hydra overrides: a new checkpoints/mine
python train.py cv=true                        # cross-validated figures, no checkpoint
python train.py -m seed=1,2 model.c=0.01,0.1   # a sweep: four runs, each in its own folder, and one table
"""

from __future__ import annotations

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from scow.cli import config_folder, flag, outcome_of, plain_config, run_hydra
from scow.io import atomic_write
from scow.models.model import Epoch
from scow.training.cross_validation import write_cross_validation
from scow.training.sweep import Figures, figures_of, report_sweep, run_of_sweep, write_sweep
from scow.training.train import TrainConfig, best_epoch, cross_validation, train, train_config

outcomes: list[Figures | Exception] = []  # of a single run
sweep: list[dict[str, str]] = []  # rows of a sweep's table


@hydra.main(version_base="1.3", config_path="checkpoints/final", config_name="config")
def main(cfg: DictConfig) -> None:
    """Run the stage on the composed config; hydra calls this for each run of a sweep."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        sweep.append(run_of_sweep(cfg, run))
        write_sweep(sweep)
    else:
        outcomes.append(outcome_of(lambda: run(cfg)))


def run(cfg: DictConfig) -> Figures:
    """Train, or cross-validate, and say how well."""
    plain = plain_config(cfg)
    config = train_config(plain)
    if flag(plain, "cv"):
        return report_cross_validation(config)
    trained = train(config, on_epoch=say_epoch)
    if trained.folder.resolve() != config_folder(HydraConfig.get()).resolve():
        with atomic_write(trained.folder / "config.yaml") as temporary:  # infer.py -cp reads it beside model.pt
            OmegaConf.save(cfg, temporary)
    print(
        f"wrote {trained.folder / 'model.pt'}"
        + (f" and {trained.folder / 'train_log.csv'}" if trained.model.log else "")
    )
    if trained.model.log:
        best = best_epoch(trained.model.log)
        r = "undefined" if best.val_r is None else f"{best.val_r:.3f}"
        print(f"kept epoch {best.epoch} of {len(trained.model.log)}: validation RMSE {best.val_rmse:.2f}, r {r}")
    if trained.out_of_fold is not None:
        print(f"fitted to all {trained.facts['n_signals']} signals; out of fold: {trained.out_of_fold}")
    return figures_of(trained.facts)


def say_epoch(epoch: Epoch) -> None:
    """A line every tenth epoch."""
    if epoch.epoch == 1 or epoch.epoch % 10 == 0:
        print(f"epoch {epoch.epoch}: loss {epoch.train_loss:.4f}, validation RMSE {epoch.val_rmse:.2f}", flush=True)


def report_cross_validation(config: TrainConfig) -> Figures:
    """Cross-validate, print RMSE and r per repeat and their means, and write cross_validation.json."""
    result, grouped_by = cross_validation(
        config,
        on_fold=lambda repeat, fold: print(f"repeat {repeat + 1}, fold {fold + 1} done", file=sys.stderr, flush=True),
    )
    for number, repeat in enumerate(result.repeats, start=1):
        print(f"repeat {number}: {repeat}")
    path = config.train.save_dir / "cross_validation.json"
    write_cross_validation(path, result, grouped_by=grouped_by, seed=config.seed)
    print(f"mean of {config.cv.repeats} repeats of {config.cv.folds} folds by {grouped_by}: {result}")
    print(f"wrote {path}")
    return Figures("cross-validated", result.rmse, result.r)


if __name__ == "__main__":
    sys.exit(run_hydra(main, outcomes) or report_sweep(sweep))
