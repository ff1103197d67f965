"""Settings of a publisher, for its tests."""

from job.config.settings import MetricsSettings


def targets(  # noqa: PLR0913  # as many as there are
    *,
    textfile: str | None = None,
    pushgateway: str | None = None,
    job: str = "truecopy",
    instance: str | None = None,
    username: str | None = None,
    password: str | None = None,
    withheld: str = "",
) -> MetricsSettings:
    return MetricsSettings(True, "", 0, textfile, pushgateway, job, instance, username, password, withheld)
