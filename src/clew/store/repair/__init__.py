"""Surgeries on recorded threads: each named, reversible, and held against a check."""

from clew.store.repair.repairs import REPAIRS, Repair, Repaired, RepairPlan, Repairs

__all__ = ["REPAIRS", "Repair", "RepairPlan", "Repaired", "Repairs"]
