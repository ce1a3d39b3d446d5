"""Lakeport from Python: publishes a Spark data frame to the tools people look at.

::

    import lakeport

    lakeport.publish(df, to="tableau:Orders")

The same as a data source, found by PySpark 4.0 and later::

    df.write.format("lakeport").mode("overwrite").option("to", "tableau:Orders").save()

The command ``lakeport`` comes with this package.
"""

import json
import re
import uuid

from . import _native
from .report import Report

__all__ = ["PublishError", "Report", "publish", "sweep"]
__version__ = _native.VERSION

# What adds to what is there; everything else takes its place.
ADDING = ("append", "upsert", "delete-insert")


class PublishError(RuntimeError):
    """A publish that did not happen; ``code`` is what ``lakeport explain`` knows more about."""

    def __init__(self, text, code):
        super().__init__(text)
        self.code = code


def publish(df, to, mode="overwrite", **options):
    """Publishes a data frame and returns the report.

    ``to`` is ``ENV:Name`` of ``lakeport.toml``, or a file or URL of any format. ``mode`` is ``overwrite``, ``append``, or one
    that the target knows: ``create``, ``replace``, ``upsert``, ``delete-insert``. Further options are those of the data source;
    ``types`` takes a dict, ``key`` and ``lossy`` take lists::

        lakeport.publish(df, "tableau:Orders", stage="s3://lake/stage", types={"payload": "json"}, lossy=["score"])

    The report is brought by a read of the same data source, so that it comes over Spark Connect as well; None where the stage
    is not one place for all of the cluster. Raises :class:`PublishError` with what the command line would say.
    """
    texts = {_option(name): _text(value) for name, value in options.items()}
    texts["to"] = str(to)
    if mode not in ("overwrite", "append"):
        texts["mode"] = mode
    saved = "append" if mode in ADDING else "overwrite"
    report = str(uuid.uuid4())
    try:
        df.write.format("lakeport").mode(saved).options(**texts, report=report).save()
    except Exception as error:
        raise _of_ours(error) from error
    where = {name: texts[name] for name in texts if name == "config" or name.split(".")[0] == "stage"}
    rows = df.sparkSession.read.format("lakeport").options(**where, report=report).load().collect()
    return Report(json.loads(rows[0][0])) if rows else None


def sweep(stage=None, older_than="24h", **options):
    """Removes what dead drivers left in a stage, and returns the names; every write does so for leftovers older than its ``stage_ttl``."""
    texts = {_option(name): _text(value) for name, value in options.items()}
    if stage is not None:
        texts["stage"] = str(stage)
    return _native.sweep(texts, str(older_than))


def _option(name):
    """``stage_aws_endpoint`` as a keyword is ``stage.aws_endpoint`` as an option."""
    for family in ("stage", "csv", "parquet", "avro", "xlsx"):
        if name.startswith(family + "_") and name != "stage_ttl":
            return name.replace("_", ".", 1)
    return name


def _text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value)
    return str(value)


def _of_ours(error):
    """The words of Lakeport in an error that Spark wrapped; the error itself where there are none."""
    found = re.search(r"\[(E\d{3})\] .*?\n\s*help: [^\n]*", str(error), re.DOTALL)
    return PublishError(found[0], found[1]) if found else error
