"""Where to compute: the CPU, or a CUDA device if there is one."""

from __future__ import annotations

from scow.errors import UserError


def resolve_device(name: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` is ``cuda`` if there is a device."""
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"device: expected auto, cpu or cuda, found {name!r}")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device: expected a CUDA device, found none; use cpu or auto")
    return name
