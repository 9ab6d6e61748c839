"""Where to compute: the CPU, or a CUDA device where there is one. Stands below the ground floor."""

from __future__ import annotations

from scow.errors import UserError


def resolve_device(name: str) -> str:
    """Turn ``auto`` into ``cuda`` where there is one, else into ``cpu``; check the other two.

    Raises
    ------
    UserError
        An unknown device, or ``cuda`` where there is none.
    """
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"device: expected auto, cpu or cuda, found {name!r}; mend the config or option")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device: expected a CUDA device, found none; use cpu or auto")
    return name
