"""The figures of an evaluation as rows of text, for the terminal and for the report alike."""

from __future__ import annotations

from pathlib import Path

from scow.evaluation.clip1_results import CLIP1_RESULTS
from scow.evaluation.evaluate import Evaluation
from scow.metrics import Estimate

AGREEMENT_HEADER = ("", "signals", "RMSE ± s.e.", "95 %", "NCC", "95 %", "tau-b", "95 %", "bias", "95 %")
COMPARISON_HEADER = ("system", "valid RMSE", "eval RMSE", "eval NCC", "inputs")
OWN_HEADER = ("scores", "signals", "RMSE ± s.e.", "95 %", "NCC", "95 %")
NOTHING = "-"


def value(number: float | None, digits: int, *, sign: bool = False) -> str:
    """A number, or a dash where it is undefined."""
    if number is None:
        return NOTHING
    text = f"{number:{'+' if sign else ''}.{digits}f}"
    return text if float(text) else text.lstrip("+-")


def ends(estimate: Estimate, digits: int, *, sign: bool = False) -> str:
    """An interval, or a dash."""
    if estimate.low is None or estimate.high is None:
        return NOTHING
    return f"{value(estimate.low, digits, sign=sign)} to {value(estimate.high, digits, sign=sign)}"


def with_error(estimate: Estimate, digits: int, *, sign: bool = False) -> str:
    """A number and its standard error, where it has one."""
    number = value(estimate.value, digits, sign=sign)
    return number if estimate.error is None else f"{number} ± {estimate.error:.{digits}f}"


def agreement_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Rows under `AGREEMENT_HEADER`: all signals, and each severity."""
    return [
        (
            name,
            str(found.n_signals),
            with_error(found.rmse, 2),
            ends(found.rmse, 2),
            value(found.ncc.value, 3),
            ends(found.ncc, 3),
            value(found.tau.value, 3),
            ends(found.tau, 3),
            value(found.bias.value, 2, sign=True),
            ends(found.bias, 2, sign=True),
        )
        for name, found in evaluation.agreements.items()
    ]


def own_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Rows under `OWN_HEADER`: this file and the baselines, on the same signals."""
    found = evaluation.agreements["all"]
    ours = [(short(evaluation.file.path), found.n_signals, found.rmse, found.ncc)]
    ours += [
        (baseline_name(baseline.name), found.n_signals, baseline.rmse, baseline.ncc)
        for baseline in evaluation.baselines
    ]
    return [
        (name, str(n), with_error(error, 2), ends(error, 2), value(ncc.value, 3), ends(ncc, 3))
        for name, n, error, ncc in ours
    ]


def published_rows() -> list[tuple[str, ...]]:
    """Rows under `COMPARISON_HEADER`."""
    return [
        (r.system, value(r.valid_rmse, 2), value(r.eval_rmse, 2), value(r.eval_r, 2), r.inputs) for r in CLIP1_RESULTS
    ]


def baseline_name(name: str) -> str:
    """What a recomputed baseline is called."""
    return f"{name} baseline, recomputed"


def short(path: Path) -> str:
    """A file with its folder, which tells checkpoints apart."""
    return "/".join(path.parts[-2:])


def method_line(evaluation: Evaluation) -> str:
    """How errors and intervals come about."""
    options = evaluation.options
    return (
        f"errors and 95 % intervals: {options.resamples} resamples of {evaluation.n_groups} {evaluation.grouped_by}s, "
        f"seed {options.seed}"
    )


def difference_line(evaluation: Evaluation) -> str | None:
    """The paired difference in a sentence; None where there is no other file."""
    found = evaluation.difference
    if found is None:
        return None
    if found.rmse.low is None or found.rmse.high is None:
        verdict = "no interval can be given"
    elif found.rmse.high < 0:
        verdict = "the interval speaks for this file"
    elif found.rmse.low > 0:
        verdict = "the interval speaks for the other file"
    else:
        verdict = "the interval holds 0: the data do not tell which is better"
    return (
        f"{short(evaluation.file.path)} minus {short(found.path)} on {found.n_signals} common signals: RMSE "
        f"{value(found.rmse.value, 2, sign=True)} ({ends(found.rmse, 2, sign=True)}), NCC "
        f"{value(found.ncc.value, 3, sign=True)} ({ends(found.ncc, 3, sign=True)}); {verdict}"
    )
