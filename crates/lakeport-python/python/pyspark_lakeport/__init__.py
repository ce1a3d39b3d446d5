"""The name under which PySpark finds the data source ``lakeport`` by itself; everything else is in the package ``lakeport``."""

from lakeport.source import DefaultSource

__all__ = ["DefaultSource"]
