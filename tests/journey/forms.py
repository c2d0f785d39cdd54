"""Forms of retrieval."""


def forms(study: str, series: str, instance: str) -> dict[str, str]:
    """Every form of item 7, at every level."""
    below_series = f"studies/{study}/series/{series}"
    below = f"{below_series}/instances/{instance}"
    made = {}
    for level, path in {
        "study": f"studies/{study}",
        "series": below_series,
        "instance": below,
    }.items():
        made[level] = path
        for suffix in ("metadata", "rendered", "thumbnail", "bulkdata", "pixeldata"):
            made[f"{level} {suffix}"] = f"{path}/{suffix}"
    return made | {
        "frames": f"{below}/frames/1",
        "frame list": f"{below}/frames/1,2",
        "frame rendered": f"{below}/frames/1/rendered",
        "frame thumbnail": f"{below}/frames/1/thumbnail",
        "bulkdata path": f"{below}/bulkdata/7FE00010",
        "query series": f"studies/{study}/series",
        "query instances": f"{below_series}/instances",
    }
