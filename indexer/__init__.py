"""From a downloaded adapter to a vector in Parquet."""
