"""What routes, tenants and models are called in the report, those without a name, too; knows no figures."""

from __future__ import annotations

from llama_index_hybridmem.costs.figures.groups import Group
from llama_index_hybridmem.costs.figures.model_use import ModelUse
from llama_index_hybridmem.costs.figures.summary import Account, Summary
from llama_index_hybridmem.costs.report import wording


def route_name(group: Group) -> str:
    """Name a route."""
    return "no route" if group.name is None else wording.name(group.name)


def by_route(group: Group) -> str:
    """Say by which route: "by vector", "without a route"."""
    return "without a route" if group.name is None else f"by {wording.said(group.name)}"


def tenant_name(account: Account) -> str:
    """Name a tenant."""
    return "not tagged" if account.name is None else wording.name(account.name)


def model_name(use: ModelUse) -> str:
    """Name a model with its adapter."""
    name = wording.name(use.model or f"unknown {use.kind}")
    return f"{name} + {wording.name(use.adapter)}" if use.adapter else name


def not_all(shown: int, summary: Summary) -> str:
    """Say that a plot leaves routes out; nothing when it does not."""
    left_out = len(summary.routes) - shown
    return f" {shown} of {len(summary.routes):,} routes; the tables have more." if left_out > 0 else ""
