"""Alembic migrations of the control plane. A new one: see the manual of script.py.mako; then raise tables.REVISION."""
