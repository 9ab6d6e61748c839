"""Where to compute: the CPU, or a CUDA device if there is one."""

from __future__ import annotations

from scow.errors import expect


def resolve_device(name: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` is ``cuda`` if there is a device."""
    import torch

    present = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    expect(name in ("auto", *present), "device", f"auto or a device that is present ({', '.join(present)})", repr(name))
    return present[-1] if name == "auto" else name
