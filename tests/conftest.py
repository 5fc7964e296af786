"""Which fixtures every test may ask for."""

from tests.docker_engine import finds_docker

pytest_plugins = ["tests.postgresql_fixtures", "tests.broker_fixtures", "tests.sidecar_fixtures"]
if not finds_docker():
    pytest_plugins.append("tests.local_clusters")
