"""Read a dataset of batch-label with Spark: python read_with_spark.py RESULTS/ [EARLIER/].

For any number of photos, on one machine or, with spark-submit, on a cluster.
"""

import sys

from pyspark.sql import DataFrame, SparkSession


def show(title: str, table: DataFrame) -> None:
    print(f"\n{title}")
    table.show(1_000, truncate=False)


def main(results: str, earlier: str | None = None) -> None:
    spark = SparkSession.builder.appName("batch-label").getOrCreate()
    now = spark.read.parquet(results)

    counts = now.groupBy("status", "label").count().sort("status", "label")
    show("Photos by status and label", counts)

    answered = now.where("label IS NOT NULL").select("path", "label", "confidence")
    show("The least certain", answered.sort("confidence", "path").limit(5))

    if earlier:
        before = spark.read.parquet(earlier)
        both = before.alias("before").join(now.alias("now"), "path")
        changed = both.where("before.label <> now.label")
        columns = ["path", "before.label AS label_before", "now.label AS label_now"]
        show("With another label than before", changed.selectExpr(*columns).sort("path"))
    spark.stop()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
