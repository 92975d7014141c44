"""Expressions asked about many pictures, on all cores of a machine or on a Ray cluster, into Parquet files."""

from __future__ import annotations
