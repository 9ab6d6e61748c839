"""Figures of the reports."""

from __future__ import annotations

import numpy as np

# Lightness rises evenly from dark blue to yellow, so that the order survives a grey print and any colour vision.
_HEAT = np.array([(16, 36, 84), (56, 70, 110), (122, 121, 118), (188, 174, 106), (254, 231, 84)])


def heat_colour(share: float) -> tuple[str, str]:
    """Background and ink as #rrggbb for a share in 0-1: dark blue is lost, yellow is caught.

    The ink has a contrast of at least 4.5 : 1 on the background (WCAG 2.2).
    """
    at = np.clip(share, 0.0, 1.0) * (len(_HEAT) - 1)
    rgb = np.array([np.interp(at, range(len(_HEAT)), channel) for channel in _HEAT.T])
    linear = np.where(rgb <= 10, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    ink = "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"
    return "#" + "".join(f"{round(value):02x}" for value in rgb), ink
