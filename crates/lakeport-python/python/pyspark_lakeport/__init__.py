"""Lakeport inside Spark: ``df.write.format("lakeport")``.

PySpark 4.0 and later find this module by its name. Each task writes its part to the stage; the commit converts the announced
parts once, publishes once, verifies, and removes the stage::

    df.write.format("lakeport").mode("overwrite").option("to", "tableau:Orders").save()
"""

import json
import os
import shutil
import tempfile
import time
import uuid
from dataclasses import dataclass

from pyspark.sql.datasource import DataSource, DataSourceArrowWriter, WriterCommitMessage

from . import _native

__all__ = ["DefaultSource", "publish"]

PREFIX = "lakeport-df-"
# Leftovers of dead drivers older than this are removed by the next write.
LEFTOVER_SECONDS = 24 * 60 * 60


@dataclass
class Part(WriterCommitMessage):
    """What a task announces: its file, and what must be found in it."""

    path: str
    rows: int
    bytes: int
    hash: str


class DefaultSource(DataSource):
    """The data source ``lakeport``; it is written and not read."""

    @classmethod
    def name(cls):
        return "lakeport"

    def writer(self, schema, overwrite):
        return Writer(schema, dict(self.options), overwrite)


class Writer(DataSourceArrowWriter):
    """Made on the driver, before any task starts; pickled to the tasks and to the commit."""

    def __init__(self, schema, options, overwrite):
        refuse(schema)
        self.schema = arrow_schema(schema)
        self.options = {k: v for k, v in options.items() if k != "path"}
        self.options.setdefault("to", options.get("path", ""))
        self.overwrite = overwrite
        # Stops here what would be stopped after an hour of work.
        _native.check(self.schema, self.options, overwrite)
        stage = stage_of(self.options)
        sweep(stage)
        self.directory = os.path.join(stage, f"{PREFIX}{int(time.time())}-{uuid.uuid4()}")
        os.makedirs(self.directory)

    def write(self, iterator):
        import pyarrow as pa
        from pyspark import TaskContext

        first = next(iterator, None)
        if first is None:
            return Part("", 0, 0, "")
        context = TaskContext.get()
        # Unique to the attempt: a retried or speculative task never meets the file of another.
        path = os.path.join(self.directory, f"part-{context.partitionId():05}-{context.taskAttemptId()}.parquet")

        def batches():
            yield first
            yield from iterator

        reader = pa.RecordBatchReader.from_batches(first.schema, batches())
        rows, size, digest = _native.write_part(path, reader)
        return Part(path, rows, size, digest)

    def commit(self, messages):
        parts = [(m.path, m.rows, m.bytes, m.hash) for m in messages if m is not None and m.rows > 0]
        # What is published is exactly what was announced; files of other attempts go with the directory.
        report = _native.publish(self.schema, parts, self.options, self.overwrite)
        with open(f"{self.directory}.report.json", "w", encoding="utf-8") as file:
            file.write(report)
        shutil.rmtree(self.directory, ignore_errors=True)
        os.replace(f"{self.directory}.report.json", os.path.join(stage_of(self.options), "last-report.json"))

    def abort(self, messages):
        shutil.rmtree(self.directory, ignore_errors=True)


def refuse(schema):
    """Types that fail inside Spark, before Lakeport would see a batch."""
    from pyspark.sql.types import YearMonthIntervalType

    for field in schema.fields:
        if isinstance(field.dataType, YearMonthIntervalType):
            raise ValueError(
                f"column `{field.name}` is a year-month interval, which Spark does not hand to a data source; "
                f"select cast(`{field.name}` as string) instead"
            )


def arrow_schema(schema):
    """The Arrow schema of a Spark schema, as bytes: it crosses processes. Instants are in UTC."""
    from pyspark.sql.pandas.types import to_arrow_schema

    try:
        arrow = to_arrow_schema(schema, timezone="UTC")
    except TypeError:
        arrow = to_arrow_schema(schema)
    return arrow.serialize().to_pybytes()


def stage_of(options):
    """The directory that driver and executors share."""
    stage = options.get("stage") or os.path.join(tempfile.gettempdir(), "lakeport-stage")
    if stage.startswith("file://"):
        stage = stage[len("file://") :]
    if "://" in stage:
        raise ValueError(f"the stage {stage} is an object store; give a directory that driver and executors share")
    os.makedirs(stage, exist_ok=True)
    return stage


def sweep(stage):
    """Removes what dead drivers left."""
    for name in os.listdir(stage):
        began = name[len(PREFIX) :].split("-")[0] if name.startswith(PREFIX) else ""
        if began.isdigit() and time.time() - int(began) > LEFTOVER_SECONDS:
            shutil.rmtree(os.path.join(stage, name), ignore_errors=True)


def publish(df, to, mode="overwrite", **options):
    """Publishes a data frame and returns the report: ``publish(df, "tableau:Orders", lossy="score")``.

    The report is read from the stage, so it is there when this process sees the driver's stage (it does in a notebook on the
    driver); otherwise None is returned.
    """
    options = {k.replace("types_", "types.", 1): str(v) for k, v in options.items()}
    df.write.format("lakeport").mode(mode).option("to", to).options(**options).save()
    report = os.path.join(stage_of(options), "last-report.json")
    if not os.path.exists(report):
        return None
    with open(report, encoding="utf-8") as file:
        return Report(json.load(file))


class Report(dict):
    """A run's report; a notebook shows it as a table."""

    def _repr_html_(self):
        from html import escape

        rows = sum(t["rows"] for t in self.get("tables", []))
        lines = [("rows", f"{rows:,}"), ("seconds", f"{self.get('seconds', 0):.1f}")]
        lines += [("verified", v) for v in self.get("verified", [])]
        receipt = self.get("receipt") or {}
        if receipt.get("url"):
            lines.append(("published", receipt["url"]))
        cells = "".join(f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in lines)
        return f"<table>{cells}</table>"
