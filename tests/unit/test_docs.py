from tests.docs import README, with_settings


def test_settings_table_of_the_readme_is_current() -> None:
    page = README.read_text()

    assert with_settings(page) == page
