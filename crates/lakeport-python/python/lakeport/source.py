"""The data source ``lakeport`` of PySpark.

Each task writes its part to the stage; the commit converts the announced parts once, publishes once, verifies, and removes the
stage. Read with the option ``report``, it hands out the report of a write instead.
"""

import importlib.util
import os
from dataclasses import dataclass

from pyspark.sql.datasource import DataSource, DataSourceArrowWriter, DataSourceReader, WriterCommitMessage

from . import _native
from .refusals import refuse

__all__ = ["DefaultSource"]


@dataclass
class Part(WriterCommitMessage):
    """What a task announces: its file, and what must be found in it."""

    name: str
    rows: int
    bytes: int
    hash: str


class DefaultSource(DataSource):
    """The data source ``lakeport``."""

    @classmethod
    def name(cls):
        return "lakeport"

    def schema(self):
        return "report string"

    def writer(self, schema, overwrite):
        return Writer(schema, dict(self.options), overwrite)

    def reader(self, schema):
        return Reader(dict(self.options))


class Writer(DataSourceArrowWriter):
    """Made on the driver, before any task starts; pickled to the tasks and to the commit."""

    def __init__(self, schema, options, overwrite):
        refuse(schema)
        self.schema = arrow_schema(schema)
        self.options = options
        self.overwrite = overwrite
        # Stops here what would be stopped after an hour of work.
        self.stage = _native.prepare(self.schema, self.options, overwrite)

    def write(self, iterator):
        import pyarrow as pa
        from pyspark import TaskContext

        first = next(iterator, None)
        if first is None:
            return Part("", 0, 0, "")
        context = TaskContext.get()
        # Unique to the attempt: a retried or speculative task never meets the file of another.
        name = f"part-{context.partitionId():05}-{context.taskAttemptId()}.parquet"

        def batches():
            yield first
            yield from iterator

        reader = pa.RecordBatchReader.from_batches(first.schema, batches())
        return Part(name, *_native.write_part(self.stage, name, self.schema, reader))

    def commit(self, messages):
        # What is published is exactly what was announced; files of other attempts go with the directory.
        parts = [(m.name, m.rows, m.bytes, m.hash) for m in messages if m is not None and m.rows > 0]
        point_at_hyperd()
        _native.publish(self.schema, self.stage, parts, self.options, self.overwrite)

    def abort(self, messages):
        _native.give_up(self.stage, self.options)


class Reader(DataSourceReader):
    """Takes the report of a write out of the stage."""

    def __init__(self, options):
        if "report" not in options:
            raise ValueError("lakeport is written and not read: use df.write.format(\"lakeport\"); files are read by Spark's own formats")
        self.report = options.pop("report")
        # On the driver, which knows the configuration; the report is taken by a task.
        self.stage = _native.locate(options)

    def read(self, partition):
        text = _native.take_report(self.stage, self.report)
        if text is not None:
            yield (text,)


def point_at_hyperd():
    """Names the hyperd of this Python's own packages, which need not be those of the `python3` that is found first."""
    found = importlib.util.find_spec("tableauhyperapi")
    if found and found.origin:
        hyperd = os.path.join(os.path.dirname(found.origin), "bin", "hyper", "hyperd")
        if os.path.exists(hyperd):
            os.environ.setdefault("HYPERD_PATH", hyperd)


def arrow_schema(schema):
    """The Arrow schema of a Spark schema, as bytes: it crosses processes. Instants are in UTC."""
    from pyspark.sql.pandas.types import to_arrow_schema

    try:
        arrow = to_arrow_schema(schema, timezone="UTC")
    except TypeError:  # PySpark 4.0, where UTC is what it takes
        arrow = to_arrow_schema(schema)
    return arrow.serialize().to_pybytes()
