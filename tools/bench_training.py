"""Time an epoch of the published network against the published way of feeding it.

    python tools/bench_training.py --tables data/cadenza_data_valid/metadata/valid_metadata_l.csv \
        data/cadenza_data_valid/metadata/valid_metadata_r.csv --signals 8802

The tables are repeated under new signal ids until there are as many signals as in the challenge's train split. Timed
side by side, on the same machine and threads: an epoch of `scow.training.fit_transformer`, and the loading of one epoch's items in
the published way, which filters both data frames afresh for every item (timed on a sample of the items, because a
whole epoch of it takes minutes; its network step is not even counted).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scow lies beside tools/ and need not be installed

import dataclasses

import numpy as np
import pandas as pd
import torch

from scow.cli import EXIT_OK, run_script
from scow.data.tables import FEATURE_COLUMNS, read_table
from scow.models.inputs import ModelInput, load_input
from scow.models.transformer import TransformerConfig
from scow.training.fit_transformer import TrainOptions, fit

COLUMNS = ("n_words", *FEATURE_COLUMNS)


def main() -> int:
    """Parse the options, time both, print seconds and their ratio."""
    parser = argparse.ArgumentParser(description="Benchmark of training.")
    parser.add_argument("--tables", type=Path, nargs=2, required=True, metavar=("LEFT", "RIGHT"))
    parser.add_argument("--signals", type=int, default=8802)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=1024, help="as published; checkpoints/published uses 128")
    parser.add_argument("--sample", type=int, default=100, help="items to filter in the published way")
    options = parser.parse_args()

    began = time.perf_counter()
    left, right = options.tables
    batch = repeated(load_input(left, right, COLUMNS), options.signals)
    loaded = time.perf_counter()
    settings = TrainOptions(save_dir=Path(), batch_size=options.batch_size, epochs=options.epochs)
    fit(batch, TransformerConfig(), settings, seed=0)
    epoch_s = (time.perf_counter() - loaded) / options.epochs
    filtered_s = filtering(options.tables, options.signals, options.sample)
    print(f"{len(batch)} signals, {torch.get_num_threads()} threads; tables read once in {loaded - began:.2f} s")
    print(f"an epoch, validation included: {epoch_s:.2f} s; 100 epochs: {100 * epoch_s / 60:.1f} min")
    print(f"filtering the data frames for one epoch's items: {filtered_s:.0f} s (from {options.sample} items)")
    print(f"ratio per epoch: {filtered_s / epoch_s:.0f}")
    return EXIT_OK


def repeated(batch: ModelInput, n: int) -> ModelInput:
    """The batch again and again, under new ids and prompts, until it has `n` signals."""
    index = torch.arange(n) % len(batch)
    many = batch.take(index)
    names = tuple(f"{i // len(batch)}-{signal}" for i, signal in enumerate(many.signals))
    prompts = tuple(f"{i // len(batch)} {prompt}" for i, prompt in enumerate(many.prompts))
    return dataclasses.replace(many, signals=names, prompts=prompts)


def filtering(paths: list[Path], n_signals: int, sample: int) -> float:
    """Seconds that filtering both tables for each of `n_signals` items takes, from `sample` of them."""
    tables = []
    for path in paths:
        table = read_table(path)
        copies = -(-n_signals // table["signal"].nunique())
        renamed = [table.assign(signal=f"{copy}-" + table["signal"]) for copy in range(copies)]
        tables.append(pd.concat(renamed, ignore_index=True))
    signals = tables[0]["signal"].drop_duplicates().to_numpy()[:n_signals]
    chosen = np.random.default_rng(0).choice(signals, sample, replace=False)
    began = time.perf_counter()
    for signal in chosen:
        for table in tables:
            rows = table[table["signal"] == signal]
            torch.tensor(rows[list(COLUMNS)].fillna(0.0).to_numpy(dtype=np.float32))
    return (time.perf_counter() - began) / sample * n_signals


if __name__ == "__main__":
    sys.exit(run_script(main))
