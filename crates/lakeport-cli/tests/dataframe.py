"""Scenarios of df.write.format("lakeport") in a real Spark; each prints what came of it, as `name: outcome`.

    dataframe.py driver        all in one session, with a Spark Connect server in it; the last one waits to be killed
    dataframe.py client        through Spark Connect (SPARK_REMOTE), with a working directory of its own

The wheel is installed in this Python; nothing else tells Spark where the data source is.
"""

import json
import os
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
import uuid

import judge_spark
import lakeport
from pyspark.sql import SparkSession
from pyspark.sql.functions import udf

HERE = os.getcwd()
STAGE = os.path.join(HERE, "stage")
MARKS = os.path.join(HERE, "marks")
ROWS = 100_000
DAY = 24 * 60 * 60


def writer(df, to, **options):
    return df.write.format("lakeport").mode("overwrite").option("to", to).option("stage", STAGE).options(**options)


def staged(stage=None):
    return sorted(os.listdir(stage or STAGE)) if os.path.isdir(stage or STAGE) else []


def told(error):
    return str(error).split("\n\n")[0].replace("\n", " ")


def rows_of(path):
    import pyarrow.parquet as pq

    return pq.read_table(path)


def sandbox(name):
    """Rows and publishes of a data source, as the sandbox itself tells them; None where there is none."""
    with urllib.request.urlopen(os.environ["SANDBOX"] + "/sandbox/datasources") as answer:
        for source in json.load(answer)["datasources"]:
            if source["name"] == name:
                return source["tables"][0]["rows"], source["publishes"]
    return None


def faults(text):
    method = "POST" if text else "DELETE"
    urllib.request.urlopen(urllib.request.Request(os.environ["SANDBOX"] + "/sandbox/faults", text.encode(), method=method)).read()


def s3(expression):
    """Asks the emulated store through the vendor's own client, which the judges' Python has."""
    code = (
        "import boto3, json, os; s3 = boto3.client('s3', endpoint_url=os.environ['S3'], region_name='us-east-1'); "
        f"print(json.dumps({expression}, default=str))"
    )
    done = subprocess.run([os.environ["LAKEPORT_PYTHON"], "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def torture(spark, to="t.hyper"):
    """Every type that Spark hands to a data source, value for value; compared by somebody else."""
    df = spark.sql(judge_spark.sql("frame"))
    options = {f"types.{n}": "json" for n in judge_spark.NESTED}
    writer(df, to, verify="full", **options).save()
    return "written"


def once(spark):
    """A task that fails the first time it meets row 60,000."""
    mark = os.path.join(MARKS, "failed")

    def fail(value):
        if value == 60_000 and not os.path.exists(mark):
            open(mark, "w").close()
            raise RuntimeError("the first attempt fails")
        return value

    writer(spark.range(0, ROWS, 1, 4).select(udf(fail, "long")("id").alias("id")), "tab:Once").save()
    assert os.path.exists(mark)
    return sandbox("Once"), staged()


def always(spark):
    def fail(value):
        if value == 60_000:
            raise RuntimeError("every attempt fails")
        return value

    try:
        writer(spark.range(0, ROWS, 1, 4).select(udf(fail, "long")("id").alias("id")), "tab:Never").save()
    except Exception as error:
        assert "every attempt fails" in str(error)
        return sandbox("Never"), staged()


def speculative(spark):
    """The first attempt of a task is slow in the middle of its rows, so that Spark starts another beside it."""
    marks = MARKS

    def slow(value):
        from pyspark import TaskContext

        context = TaskContext.get()
        # After a whole batch, so that the file of this attempt has begun.
        if context.partitionId() == 3 and value % 20_000 == 0:
            open(os.path.join(marks, f"attempt-{context.attemptNumber()}"), "w").close()
            if context.attemptNumber() == 0 and value > 350_000:
                time.sleep(60)
        return value

    df = spark.range(0, 4 * ROWS, 1, 4).select(udf(slow, "long")("id").alias("id"))
    began = time.time()
    writer(df, "tab:Twice", keep_stage="true").save()
    assert time.time() - began < 55, "the slow attempt was waited for"
    attempts = sorted(m for m in os.listdir(MARKS) if m.startswith("attempt"))
    (directory,) = staged()
    files = sorted(os.listdir(os.path.join(STAGE, directory)))
    of_the_slow = [f for f in files if f.startswith("part-00003")]
    # The kept stage shows that both wrote; only the announced file was published.
    swept = lakeport.sweep(STAGE, older_than="0s")
    assert swept == [directory], swept
    return sandbox("Twice"), attempts, f"{len(of_the_slow)} files of the task", staged()


def commit(spark):
    """The server takes the upload and fails at the commit, for as long as it is asked: what was there stays."""
    df = spark.range(0, ROWS, 1, 4)
    writer(df.limit(7), "tab:Frame").save()
    before = sandbox("Frame")
    faults("publish:*:status=500")
    try:
        writer(df, "tab:Frame").save()
    except Exception as error:
        code = "E150" if "[E15" in str(error) else told(error)[-400:]
    finally:
        faults("")
    assert sandbox("Frame") == before
    return before, code, staged()


def append(spark):
    df = spark.range(0, 10, 1, 2)
    writer(df, "tab:Grows").save()
    df.write.format("lakeport").mode("append").option("to", "tab:Grows").option("stage", STAGE).save()
    return sandbox("Grows"), staged()


def empty(spark):
    writer(spark.sql("select 1 as a, 'x' as b where false"), "empty.parquet").save()
    table = rows_of("empty.parquet")
    return table.num_rows, table.column_names, staged()


def sweeping(spark):
    """Only old directories of writes go; files of others, fresh directories and those still written to stay."""
    old, fresh = int(time.time()) - 2 * DAY, int(time.time())
    names = {n: f"lakeport-df-{began}-{uuid.uuid4()}" for n, began in [("old", old), ("busy", old), ("fresh", fresh)]}
    for name in [*names.values(), "orders"]:
        os.makedirs(os.path.join(STAGE, name))
        open(os.path.join(STAGE, name, "part-0.parquet"), "w").close()
    os.utime(os.path.join(STAGE, names["old"], "part-0.parquet"), (old, old))
    writer(spark.range(5), "five.parquet").save()
    left = [name for name, directory in [*names.items(), ("others", "orders")] if directory in staged()]
    gone = lakeport.sweep(STAGE, older_than="0s")
    assert len(gone) == 2 and staged() == ["orders"], (gone, staged())
    os.remove(os.path.join(STAGE, "orders", "part-0.parquet"))
    os.rmdir(os.path.join(STAGE, "orders"))
    return left


def object_store(spark):
    """Parts in S3: more than one part of an upload each, fetched, compared, removed; also when a task fails."""
    s3("s3.create_bucket(Bucket='stage')")
    keys = "[o['Key'] for o in s3.list_objects_v2(Bucket='stage').get('Contents', [])]"
    uploads = "len(s3.list_multipart_uploads(Bucket='stage').get('Uploads', []))"
    url = {"stage.aws_endpoint": os.environ["S3"], "stage.aws_allow_http": "true", "stage.aws_region": "us-east-1"}
    df = spark.range(0, 800_000, 1, 2).selectExpr("id", "uuid() as u")
    writer(df, "tab:Far", **{"stage": "s3://stage/frames", "keep_stage": "true", **url}).save()
    tags = s3(f"[s3.head_object(Bucket='stage', Key=k)['ETag'] for k in {keys}]")
    in_parts = sum("-" in tag for tag in tags)
    s3("s3.put_object(Bucket='stage', Key='frames/orders/x', Body=b'x')['ETag']")

    def fail(value):
        if value == 60_000:
            raise RuntimeError("every attempt fails")
        return value

    # The environment's options reach the store as well; what the kept write left is swept by this one.
    bad = spark.range(0, ROWS, 1, 2).select(udf(fail, "long")("id").alias("id"))
    try:
        writer(bad, "tab:Far", stage="lake:frames", stage_ttl="0s").save()
    except Exception as error:
        assert "every attempt fails" in str(error), error
    report = lakeport.publish(df.limit(9), "tab:Near", stage="lake:frames")
    assert report.rows == 9
    return sandbox("Far"), f"{in_parts} of {len(tags)} in parts", s3(keys), f"{s3(uploads)} uploads open", sandbox("Near")


def published(spark):
    """One line for a notebook, and the report it gives."""
    df = spark.sql("select id, concat('a<b>&', id) as `na<me>`, array(id) as l, cast(id as decimal(12,3)) as `Cost` from range(0, 5000, 1, 3)")
    report = lakeport.publish(df, "tab:One line", stage=STAGE, types={"l": "json", "Cost": "double"}, lossy=["Cost"])
    html = report._repr_html_()
    with open("report.html", "w") as file:
        file.write(f"<!doctype html><meta charset=utf-8>{html}")
    assert "na&lt;me&gt;" in html and "na<me>" not in html, html
    assert html.count("<table>") == html.count("</table>") == 2
    assert report["receipt"]["url"].startswith("http") and report["ok"] is True
    json.dumps(report)
    try:
        lakeport.publish(df, "tab:One line", stage=STAGE)
    except lakeport.PublishError as error:
        return report.rows, repr(report).split(" in ")[0], error.code, sandbox("One line"), staged()


def refused(spark):
    """Whatever is refused is refused before a task starts: the rows themselves would fail."""

    def never(value):
        raise RuntimeError("a task was started")

    df = spark.range(5).select(udf(never, "long")("id").alias("id"))
    sql = lambda text: spark.range(1).select(udf(never, "long")("id").alias("id")).selectExpr("id", text)
    types = {
        "months": ("interval '1' month as m", "[E203] column `m` is a year-month interval", "select cast(`m` as string) instead"),
        "months within": ("array(named_struct('a', interval '1' year)) as m", "[E203] column `m` holds a year-month", "instead"),
        "variant": ("parse_json('1') as v", "[E203] column `v` is a variant", "select to_json(`v`) instead"),
        "calendar": ("make_interval(1, 2) as c", '"INTERVAL"', ""),
        "nested": ("array(1) as l", "[E203] column `l`", "help:"),
        "twice": ("1 as id", "`id`", ""),
    }
    cases = {
        "to": (lambda: df.write.format("lakeport").mode("overwrite").save(), "the option `to` is missing", "tableau:Orders"),
        "secret": (lambda: writer(df, "x.csv", token_secret="hush").save(), "`token_secret` looks like a secret", "by reference"),
        "secret of the stage": (lambda: writer(df, "x.csv", **{"stage.aws_secret_access_key": "hush"}).save(), "looks like a secret", "AWS_"),
        "secret in a url": (lambda: writer(df, "s3://me:hush@bucket/x.csv").save(), "holds a secret", "by reference"),
        "signature in a url": (lambda: writer(df, "https://a.blob/x.csv?sig=hush").save(), "holds a secret", "by reference"),
        "option": (lambda: writer(df, "x.csv", lozzy="true").save(), "there is no option `lozzy`", "did you mean `lossy`?"),
        "value": (lambda: writer(df, "x.csv", verify="some").save(), "`some` is no value of option `verify`", "help:"),
        "ttl": (lambda: writer(df, "x.csv", stage_ttl="soon").save(), "`soon` is no time", "24h"),
        "job": (lambda: writer(df, "x.csv", job="orders").save(), "has `sql`", "do in Spark"),
        "environment": (lambda: writer(df, "tabb:X").save(), "there is no environment `tabb`", "did you mean `tab`?"),
        "format": (lambda: writer(df, "x.nope").save(), "nope", "help:"),
        "format option": (lambda: writer(df, "x.csv", **{"csv.delimitr": ";"}).save(), "csv", "delimiter"),
        "column": (lambda: writer(df, "x.hyper", types="idd=text").save(), "idd", "did you mean `id`?"),
        "append to a file": (lambda: df.write.format("lakeport").mode("append").save("x.csv"), "cannot be written in mode append", "help:"),
        "stage": (lambda: writer(df, "x.csv", stage="tab:frames").save(), "Tableau", "help:"),
        "save mode": (lambda: df.write.format("lakeport").option("to", "x.csv").save(), "ErrorIfExists", "Overwrite"),
        "save mode ignore": (lambda: df.write.format("lakeport").mode("ignore").option("to", "x.csv").save(), "Ignore", "Overwrite"),
        "partitionBy": (lambda: writer(df, "x.csv").partitionBy("id").save(), "partitioning", ""),
        "read": (lambda: spark.read.format("lakeport").load().collect(), "written and not read", "df.write"),
    }
    for name, (text, what, instead) in types.items():
        cases[f"type {name}"] = (lambda text=text: writer(sql(text), "x.hyper").save(), what, instead)
    before = os.listdir(HERE)
    wrong = []
    for name, (work, what, instead) in cases.items():
        try:
            work()
            wrong.append(f"{name} was not refused")
        except Exception as error:
            text = str(error)
            if what not in text or instead not in text or "a task was started" in text or "hush" in text:
                wrong.append(f"{name}: {text[:1500]}")
    assert not wrong, "\n".join(wrong)
    assert os.listdir(HERE) == before and staged() == [], staged()
    return f"{len(cases)} refused"


def options(spark):
    """The case of columns, options of formats, and a job of lakeport.toml as the base."""
    df = spark.sql("select 1 as Amount, 2 as b")
    writer(df, "o.csv", **{"types.Amount": "text", "csv.delimiter": ";", "csv.header": "true"}).save()
    df.write.format("lakeport").mode("overwrite").option("job", "base").option("stage", STAGE).save()
    with open("o.csv") as one, open("based.csv") as two:
        return one.read(), two.read()


DRIVER = [torture, once, always, speculative, commit, append, empty, sweeping, object_store, published, refused, options]


def client_torture(spark):
    # Beside the driver, whose working directory counts.
    return torture(spark, "afar.hyper")


def client_published(spark):
    """The report comes back although this process neither sees the stage nor the configuration."""
    report = lakeport.publish(spark.range(0, 5000, 1, 3), "tab:From afar", stage=os.environ["DRIVER_STAGE"])
    return report.rows, report["receipt"]["name"], sandbox("From afar"), staged(os.environ["DRIVER_STAGE"])


def client_failing(spark):
    try:
        bad = spark.sql("select if(id = 60000, raise_error('no'), id) as id from range(0, 100000, 1, 4)")
        lakeport.publish(bad, "tab:Never afar", stage=os.environ["DRIVER_STAGE"])
    except Exception as error:
        return type(error).__name__, sandbox("Never afar"), staged(os.environ["DRIVER_STAGE"])


def client_refused(spark):
    try:
        lakeport.publish(spark.sql("select array(1) as l"), "tab:Never afar", stage=os.environ["DRIVER_STAGE"])
    except lakeport.PublishError as error:
        return error.code, staged(os.environ["DRIVER_STAGE"])


CLIENT = [client_torture, client_published, client_failing, client_refused]


def committing(spark):
    """Published, and the driver does not hear of it any more."""
    # A thread of Python has one of the JVM's, which looks for data sources in its own session.
    SparkSession._get_j_spark_session_class(spark._jvm).setActiveSession(spark._jsparkSession)
    faults("publish:1:hang-after")
    writer(spark.range(0, 1000, 1, 1), "tab:Committing").save()
    print("committing: not killed", flush=True)


def doomed(spark):
    """Each task writes a batch and then waits to be killed."""

    def slow(value):
        if value % 25_000 == 20_001:
            time.sleep(600)
        return value

    # Two of the four cores, the others are for the write beside it.
    writer(spark.range(0, ROWS, 1, 2).select(udf(slow, "long")("id").alias("id")), "tab:Doomed").save()
    return "not killed"


def client():
    """The same session, from a process that knows nothing but its address."""
    directory = os.path.join(HERE, "afar")
    os.makedirs(directory)
    remote = f"sc://127.0.0.1:{os.environ['CONNECT_PORT']}"
    environment = {**os.environ, "SPARK_REMOTE": remote, "DRIVER_STAGE": STAGE}
    done = subprocess.run([sys.executable, __file__, "client"], cwd=directory, env=environment, capture_output=True, text=True)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        print("the client failed:", done.stderr[-3000:], flush=True)


def session():
    if "SPARK_REMOTE" in os.environ:
        return SparkSession.builder.remote(os.environ["SPARK_REMOTE"]).getOrCreate()
    settings = {
        "spark.ui.enabled": "false",
        "spark.sql.session.timeZone": "America/New_York",
        "spark.driver.memory": "1g",
        "spark.executor.memory": "512m",
        "spark.executor.cores": "1",
        "spark.sql.timeType.enabled": "true",
        "spark.speculation": "true",
        "spark.speculation.interval": "200ms",
        "spark.speculation.minTaskRuntime": "4s",
        "spark.speculation.quantile": "0.5",
        "spark.speculation.multiplier": "2",
        # Batches small enough that a part of several is under way when its task fails.
        "spark.sql.execution.arrow.maxRecordsPerBatch": "5000",
    }
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        settings[f"spark.executorEnv.{name}"] = os.environ[name]
    if "CONNECT_PORT" in os.environ:
        settings["spark.plugins"] = "org.apache.spark.sql.connect.SparkConnectPlugin"
        settings["spark.connect.grpc.binding.address"] = "127.0.0.1"
        settings["spark.connect.grpc.binding.port"] = os.environ["CONNECT_PORT"]
    builder = SparkSession.builder.master(os.environ["CLUSTER"])
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def main(which):
    os.makedirs(MARKS, exist_ok=True)
    spark = session()
    wanted = os.environ.get("ONLY", "").split()
    for scenario in {"driver": DRIVER, "client": CLIENT}[which]:
        if wanted and scenario.__name__ not in wanted:
            continue
        began = time.time()
        try:
            outcome = scenario(spark)
        except Exception:
            outcome = "FAILED " + traceback.format_exc().replace("\n", "\n  ")
        print(f"{scenario.__name__}: {outcome}", flush=True)
        print(f"  ({time.time() - began:.1f} s)", flush=True)
    if which == "driver":
        if not wanted or any(w.startswith("client") for w in wanted):
            client()
        print("all: done", flush=True)
        # The last two are under way when the driver is killed.
        threading.Thread(target=committing, args=[spark], daemon=True).start()
        doomed(spark)


if __name__ == "__main__":
    main(sys.argv[1])
