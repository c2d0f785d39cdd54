"""The catalog: since when a study is as it is."""
