"""Scenarios of df.write.format("lakeport") in a real PySpark; each prints what came of it.

    dataframe.py torture | failures | publish
"""

import json
import os
import sys
import time

import judge_spark
from pyspark.sql import SparkSession

STAGE = os.path.join(os.getcwd(), "stage")


def session():
    return (
        SparkSession.builder.master("local[2,4]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "America/New_York")
        .config("spark.driver.memory", "1g")
        .getOrCreate()
    )


def writer(df, to, **options):
    return df.write.format("lakeport").mode("overwrite").option("to", to).option("stage", STAGE).options(**options)


def refused(name, work):
    try:
        work()
    except Exception as error:  # every way in which Spark raises
        print(f"refused: {name}", str(error).replace("\n", " ")[-300:])
    else:
        print(f"NOT refused: {name}")


def torture(spark):
    df = spark.sql(judge_spark.sql("staged"))
    options = {"types.list": "json", "types.map": "json", "types.struct": "json", "verify": "full"}
    writer(df, "t.hyper", **options).save()


def rows_of(path):
    import pyarrow.parquet as pq

    return pq.read_table(path)


def failures(spark):
    from pyspark.sql.functions import udf

    marks = os.path.join(os.getcwd(), "marks")
    os.makedirs(marks)

    def once(value):
        """Fails the first time it meets row 60,000."""
        mark = os.path.join(marks, "failed")
        if value == 60_000 and not os.path.exists(mark):
            open(mark, "w").close()
            raise RuntimeError("the first attempt fails")
        return value

    def always(value):
        if value == 60_000:
            raise RuntimeError("every attempt fails")
        return value

    df = spark.range(0, 100_000, 1, 4)
    writer(df.select(udf(once, "long")("id").alias("id")), "retried.parquet").save()
    table = rows_of("retried.parquet")
    assert len(set(table["id"].to_pylist())) == table.num_rows
    print(f"retried: {table.num_rows} rows")

    try:
        writer(df.select(udf(always, "long")("id").alias("id")), "never.parquet").save()
    except Exception:
        print(f"failed for good: {'something' if os.path.exists('never.parquet') else 'nothing'}")

    # The commit itself fails: nobody listens there. What was there stays, and the error is the one of the command line.
    with open("down.toml", "w") as file:
        file.write('[env.down]\ntype = "tableau"\nurl = "http://127.0.0.1:1"\ntoken_name = "t"\ntoken_secret = { env = "TOKEN" }\n')
    try:
        writer(df, "down:Frame", config="down.toml").save()
    except Exception as error:
        print("commit failed:", "E150" if "[E150]" in str(error) else str(error)[-300:])

    os.makedirs(os.path.join(STAGE, f"lakeport-df-{int(time.time()) - 2 * 24 * 3600}-x"))
    writer(spark.sql("select 1 as a, 'x' as b where false"), "empty.parquet").save()
    table = rows_of("empty.parquet")
    print(f"empty: {table.num_rows} rows, {' '.join(table.column_names)}")
    print("old leftovers:", "swept" if not any("-x" in n for n in os.listdir(STAGE)) else os.listdir(STAGE))

    refused("to", lambda: df.write.format("lakeport").mode("overwrite").option("stage", STAGE).save())
    refused("secret", lambda: writer(df, "x.parquet", token_secret="hush").save())
    refused("mode", lambda: df.write.format("lakeport").option("to", "x.parquet").option("stage", STAGE).save())
    refused("months", lambda: writer(spark.sql("select interval '1' month as m"), "x.parquet").save())
    refused("lossy", lambda: writer(spark.sql("select array(1) as l"), "x.hyper").save())
    assert not os.path.exists("x.parquet") and not os.path.exists("x.hyper")


def publish(spark):
    import pyspark_lakeport

    report = pyspark_lakeport.publish(spark.range(0, 5000, 1, 3), "tab:Frame", stage=STAGE)
    print(f"published {report['tables'][0]['rows']} rows", report["receipt"]["url"])
    assert "<table>" in report._repr_html_()


if __name__ == "__main__":
    spark = session()
    {"torture": torture, "failures": failures, "publish": publish}[sys.argv[1]](spark)
    spark.stop()
