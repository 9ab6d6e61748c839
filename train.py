"""Stage 4: feature tables to a trained checkpoint.

python train.py                                # retrains checkpoints/final
python train.py -cp checkpoints/published      # the transformer, as published
python train.py exp_name=mine model.c=0.01     # hydra overrides: a new checkpoints/mine
python train.py cv=true                        # cross-validated figures and scores, no checkpoint
python train.py -cp checkpoints/clip2 ablation=all   # variants without an input, compared: ablation.csv, ablation.md
python train.py -m seed=1,2 model.c=0.01,0.1   # a sweep: four runs, each in its own folder, and one table
"""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from scow.cli import Progress, aligned, note, run_script
from scow.config import REFERENCE, folder_inside
from scow.data.scores import write_rows
from scow.errors import UserError, expect
from scow.hydra_cli import check_overrides, config_folder, outcome_of, overridden_keys, plain_config, run_hydra
from scow.io import Output, atomic_write, check_outputs, write_json

if TYPE_CHECKING:  # imported where needed: --help need not wait for torch
    from scow.models.model import Epoch
    from scow.training.train import Figures, TrainConfig

outcomes: list[Figures | Exception] = []  # of a single run
sweep: list[dict[str, str]] = []  # rows of a sweep's table


@hydra.main(version_base="1.3", config_path=None, config_name="config")
def main(cfg: DictConfig) -> None:
    """Run the stage on the composed config; hydra calls this for each run of a sweep."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from scow.training.sweep import run_of_sweep

        run_of_sweep(cfg, run, sweep)
    else:
        outcomes.append(outcome_of(lambda: run(cfg)))


def run(cfg: DictConfig) -> Figures:
    """Train, or cross-validate, and print how well the model predicts."""
    from scow.training.train import figures_of, train, train_config

    config = train_config(plain_config(cfg))
    given = HydraConfig.get().mode == RunMode.MULTIRUN or "train.save_dir" in overridden_keys()
    if not given and config.train.save_dir.resolve() != config_folder().resolve():
        folder_inside(config.train.save_dir, "train.save_dir")
    elif not given and "exp_name" not in overridden_keys() and (config_folder() / "model.pt").exists():
        own = [key for key in overridden_keys() if re.match(r"data\.(tables|csv_path_[lr])$", key)]
        expect(
            not own,
            config_folder(),
            "another folder for a model of other data; give it by exp_name=mine",
            ", ".join(own),
        )
    if config.run.ablation:
        return report_ablation(config, plain_config(cfg))
    check_outputs(outputs(config), config.data.training_files)
    if config.run.cv:
        return report_cross_validation(config)
    folder = config.train.save_dir
    model, facts = train(config, on_epoch=print_epoch)
    if folder.resolve() != config_folder().resolve():
        with atomic_write(folder / "config.yaml") as temporary:  # infer.py -cp reads it beside model.pt
            has_resolvers = "${" in REFERENCE.sub("", OmegaConf.to_yaml(cfg))  # of the command line; no file may
            OmegaConf.save(cfg, temporary, resolve=has_resolvers)
    for column, n in facts["empty"].items():
        note(f"{n} training signals without {column}, which is taken as 0.0")
    result = figures_of(facts)
    score = f"RMSE {result.rmse:.2f}, r {'undefined' if result.r is None else f'{result.r:.3f}'}"
    if model.log:
        best = facts["kept_epochs"][0]
        print(f"wrote {folder / 'model.pt'} and {folder / 'train_log.csv'}")
        print(f"best epoch {best} of {len(model.log)}: {result.kind} {score}")
    else:
        print(f"wrote {folder / 'model.pt'}")
        print(f"fitted to all {facts['n_signals']} signals; {result.kind}: {score}")
    return result


def outputs(config: TrainConfig) -> list[Output]:
    """What a run writes."""
    from scow.data.scores import CV_SCORES

    folder = config.train.save_dir
    if config.run.cv:
        return [
            (folder / "cross_validation.json", "figures", rb'\{.*"rmse"'),
            (folder / CV_SCORES, "scores", rb'("[^"\n]*"|[^,"\n]+),\d[\d.]*\r?\n'),
        ]
    return [
        (folder / "model.pt", "a checkpoint", b"PK|\x80"),
        (folder / "model.json", "facts", rb'\{\s*"sha256"'),
        (folder / "config.yaml", "a config", rb"(.*\n)?(exp_name|data|model|train|infer):"),
        (folder / "train_log.csv", "a log", b"epoch,"),
    ]


def print_epoch(epoch: Epoch) -> None:
    """A line every tenth epoch."""
    if epoch.epoch == 1 or epoch.epoch % 10 == 0:
        print(f"epoch {epoch.epoch}: loss {epoch.train_loss:.4f}, validation RMSE {epoch.val_rmse:.2f}", flush=True)


def report_cross_validation(config: TrainConfig) -> Figures:
    """Cross-validate, print RMSE and r per repeat and their means, and write both and the scores."""
    from scow.data.scores import CV_SCORES, write_scores
    from scow.training.cross_validation import figures
    from scow.training.train import Figures, cross_validation

    result, grouped_by = cross_validation(config, progress=Progress())
    for number, repeat in enumerate(result.repeats, start=1):
        print(f"repeat {number}: {repeat}")
    folds = config.cross_validation.folds
    print(f"mean of {len(result.scores)} repeats of {folds} folds by {grouped_by}: {result}")
    path = config.train.save_dir / "cross_validation.json"
    write_json(path, figures(result, grouped_by=grouped_by, seed=config.run.seed))
    write_scores(path.with_name(CV_SCORES), result.signals, result.scores.mean(axis=0))
    print(f"wrote {path} and {path.with_name(CV_SCORES)}")
    return Figures("cross-validated", result.rmse, result.r)


def report_ablation(config: TrainConfig, values: dict[str, Any]) -> Figures:
    """Train, cross-validate and infer variants of a config, and write a table and a paragraph for the report."""
    from scow.inference import infer, infer_config
    from scow.training.ablation import Variant, ablation_rows, report, variant_configs
    from scow.training.train import Figures, cross_validation, train, train_config

    folder = config.train.save_dir
    parts = variant_configs(values, config.run.ablation)
    configs = {name: train_config(of) for name, of in parts.items()}
    table, text = folder / "ablation.csv", folder / "ablation.md"
    planned = [output for of in configs.values() for output in outputs(of)]
    planned += [(table, "a table", b"variant,"), (text, "a report", b"# Ablations")]
    check_outputs(planned, config.data.training_files)
    variants = []
    for name, of in configs.items():
        print(f"{name}: {', '.join(of.data.feature_cols)}", flush=True)
        began = time.perf_counter()
        result, grouped_by = cross_validation(of, progress=Progress())
        _, facts = train(of)
        seconds = time.perf_counter() - began
        variants.append(Variant(name, result, facts, of.data.feature_cols, seconds))
        with atomic_write(of.train.save_dir / "config.yaml") as temporary:
            OmegaConf.save(OmegaConf.create(parts[name]), temporary)
        try:
            done, missing = infer(infer_config(parts[name], of.train.save_dir))
        except UserError as error:
            done, missing = [], [str(error)]
        for line in missing:
            note(line)
        for split in done:
            print(f"  {split.split} -> {split.form or split.path}")
    rows = ablation_rows(variants)
    write_rows(table, rows)
    with atomic_write(text) as temporary:
        temporary.write_text(report(variants, rows, grouped_by), encoding="utf-8")
    print(f"{aligned(rows)}\nwrote {table} and {text}")
    return Figures("cross-validated", variants[0].result.rmse, variants[0].result.r)


if __name__ == "__main__":
    exit_code = run_script(lambda: check_overrides(sys.argv)) or run_hydra(main, outcomes)
    if sweep and not exit_code:
        from scow.training.sweep import report_sweep

        exit_code = report_sweep(sweep)
    sys.exit(exit_code)
