"""Class paths in settings: all of them are found, wherever they stand."""

from protocol.class_path import named_paths


def test_what_settings_name_is_found_with_and_without_class_path() -> None:
    settings = {
        "model": {
            "class_path": "my.Model",
            "init_args": {"inner": {"class_path": "my.Inner"}, "decode": "no path here"},
        },
        "decode": ["my.function", {"class_path": "my.Decoder"}],
        "collate": "my.collate",
        "seed": 3,
    }
    found = named_paths(settings, ("decode", "collate"))
    assert {"my.Model", "my.Inner", "my.function", "my.Decoder", "my.collate"} <= {*found}
    assert {"my.Model", "my.Inner", "my.Decoder"} == {*named_paths(settings, ())}
