"""Forecasting models: features of a shard, seasonal naive, and the Forecaster families.

Models know arrays and settings; they know no streams, versions or stores. Nothing heavy is imported here.
"""
