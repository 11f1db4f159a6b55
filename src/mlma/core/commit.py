"""What one pass of the loop makes true at once; it crosses the port of the control plane as one value."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlma.core.blocks import DecisionBlock
from mlma.core.records import (
    Certificate,
    Decision,
    Effect,
    Finding,
    GroupTraining,
    Incident,
    Rejected,
    Request,
    Serving,
    SourceFile,
    Stream,
    Version,
)
from mlma.core.training_queue import Bucket


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Everything that becomes true together. Applied in one transaction, or not at all.

    Effects, versions and findings replace a row of the same key; streams, decisions, servings and rejected
    rows are added, and adding one whose key exists replaces it (a repeated commit changes nothing).
    """

    cursor: int | None = None  # the last closed batch
    file: SourceFile | None = None
    rejected: Sequence[Rejected] = ()
    streams: Sequence[Stream] = ()
    block: DecisionBlock | None = None
    decisions: Sequence[Decision] = ()
    effects: Sequence[Effect] = ()
    versions: Sequence[Version] = ()
    servings: Sequence[Serving] = ()
    requests: Sequence[Request] = ()  # consumed
    findings: Sequence[Finding] = ()
    certificate: Certificate | None = None  # replaces the one of the same batch
    incidents: Sequence[Incident] = ()  # replace those of the same id
    groups: Sequence[GroupTraining] = ()  # replace those of the same id
    bucket: Bucket | None = None  # of the training budget; replaces the one before
