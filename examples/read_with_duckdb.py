"""Read a dataset of batch-label with DuckDB: python read_with_duckdb.py RESULTS/ [EARLIER/].

For any number of photos: DuckDB reads only the files that a query needs, and spills to disk.
"""

import sys

import duckdb


def open_dataset(database: duckdb.DuckDBPyConnection, name: str, folder: str) -> None:
    """Create a view of all files."""
    database.read_parquet(f"{folder.rstrip('/')}/*.parquet").create_view(name)


def show(title: str, table: duckdb.DuckDBPyRelation) -> None:
    print(f"\n{title}")
    table.show(max_width=200, max_rows=1_000)


def main(results: str, earlier: str | None = None) -> None:
    database = duckdb.connect()
    open_dataset(database, "now", results)

    counts = "SELECT status, label, count(*) AS photos FROM now GROUP BY ALL ORDER BY ALL"
    show("Photos by status and label", database.sql(counts))

    least = """SELECT path, label, confidence FROM now WHERE label IS NOT NULL
               ORDER BY confidence, path LIMIT 5"""
    show("The least certain", database.sql(least))

    if earlier:
        open_dataset(database, "before", earlier)
        changed = """SELECT path, before.label AS label_before, now.label AS label_now
                     FROM before JOIN now USING (path)
                     WHERE before.label <> now.label ORDER BY path"""
        show("With another label than before", database.sql(changed))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
