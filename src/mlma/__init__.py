"""Keeps thousands of forecasting models healthy: tests losses, retrains, proves, reports."""

__version__ = "0.1.0"
