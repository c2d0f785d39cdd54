"""What apps are answered when a study is corrected in Orthanc."""

TABLE = """
                         | being sent  | asked for then, while all of it is  | FHIR  | frames,
                         |             | remembered: study, series, instance | search| rendered,
                         |             | and frames; QIDO-RS rows of studies,| now,  | instance,
what was done            | study series| series, instances                   | later | frames
delete_study             | reset reset | 404   404   404   0     404   404   | 0 0   | 404 404 404 404
delete_series            | reset reset | 40    404   404   1     1     40    | 1 1   | 404 404 404 404
delete_instance          | 79    39    | 79    39    404   1     2     79    | 1 1   | 404 404 404 404
change_number_of_patient | reset reset | 404   404   404   0     404   404   | 0 0   | 404 404 404 404
merge_into_others        | reset reset | 404   404   404   0     404   404   | 0 0   | 404 404 404 404
split_for_other          | reset reset | 40    404   404   1     1     40    | 1 1   | 404 404 404 404
describe_anew            | reset reset | 404   404   404   0     404   404   | 0 0   | 404 404 404 404
describe_series_anew     | reset reset | 80    404   404   1     2     80    | 1 1   | 404 404 404 404
refile_for_other         | reset reset | 404   404   404   0     404   404   | 0 0   | 404 404 404 404
refile_series_for_other  | reset reset | 404   404   404   0     404   404   | 0 0   | 404 404 404 404
stray_instance           | 80    40    | 404   404   404   0     404   404   | 0 0   | 404 404 404 404
anonymise_copy           | 80    40    | 404   404   404   0     404   404   | 0 0   | 404 404 404 404
images_come              | 80    40    | 83    43    1     1     2     83    | 1 1   | 1   1   1   1
replace_instances        | 80    40    | 80    40    1     1     2     80    | 1 1   | 1   1   1   1
"""
"""The study of ``INSTANCES`` instances in two series; the corrections are functions above.

Study, series and instance stand for their metadata, too, and frames for rendered images. A number
is a 200 with so many instances or rows. ``reset`` is a connection that is broken off, which no
client takes for the end. ``later`` is when ``limits.search_cache_seconds`` have passed. All else is
so at once.

The last columns are those of a client that asks for nothing else. Frames and drawn images carry no
patient inside: owners that are remembered permit them for ``UNNAMED_SECONDS`` only, which are over
here.
"""
