"""Read a dataset of batch-label with pandas: python read_with_pandas.py RESULTS/ [EARLIER/].

For reports that fit into memory: some millions of photos do.
"""

import sys

import pandas as pd

COLUMNS = ["path", "confidence", "status", "label"]


def read(folder: str) -> pd.DataFrame:
    return pd.read_parquet(folder, columns=COLUMNS)


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n{table.to_string(index=False)}")


def main(results: str, earlier: str | None = None) -> None:
    now = read(results)

    counts = now.groupby(["status", "label"], dropna=False).size()
    show("Photos by status and label", counts.reset_index(name="photos"))

    least = now.dropna(subset=["label"]).sort_values(["confidence", "path"]).head(5)
    show("The least certain", least[["path", "label", "confidence"]])

    if earlier:
        both = read(earlier).merge(now, on="path", suffixes=("_before", "_now"))
        both = both.dropna(subset=["label_before", "label_now"])
        changed = both[both["label_before"] != both["label_now"]]
        show("With another label than before", changed[["path", "label_before", "label_now"]])


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
