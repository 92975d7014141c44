"""Referring segmentation in Ray Data: `dataset.map_batches(refseg.ray.Segment, ...)`."""

from __future__ import annotations

from refseg.apps.batch.ray_data import Segment

__all__ = ["Segment"]
