from tools.docs import ENDPOINT, README, with_failures, with_settings


def test_settings_table_of_the_readme_is_current() -> None:
    page = README.read_text()

    assert with_settings(page) == page


def test_table_of_failures_of_the_endpoint_page_is_current() -> None:
    page = ENDPOINT.read_text()

    assert with_failures(page) == page
