"""What counts as a secret of an environment, and that it is found however it is written."""

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_executor.settings import ExecutorSettings
from raa_runtime.masking import MASK, SHORTEST, Secrets


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("CRM_TOKEN", "abcdef123", "abcdef123"),
        ("STRIPE_KEY", "abcdef123", "abcdef123"),
        ("DATABASE_URL", "postgres://me:abcdef123@db/x", "abcdef123"),
        ("RAA_MONGO_URL", "mongodb://me:a%2Fcdef123@h1,h2", "a/cdef123"),
        ("RAA_KAFKA_SECURITY", '{"protocol": "SASL_SSL", "password": "abcdef123"}', "abcdef123"),
        ("RAA_MODELS", '[{"name": "a", "api_key": "abcdef123"}]', "abcdef123"),
    ],
)
def test_a_secret_of_the_environment_is_hidden(name: str, value: str, secret: str):
    assert Secrets.of({name: value}).hide(f"refused: {secret}!") == f"refused: {MASK}!"


@pytest.mark.parametrize(
    ("name", "value"),
    [("PWD", "/home/me/work"), ("LANG", "en_GB.UTF-8"), ("CRM_TOKEN", "short"), ("CRM_TOKEN", ""), ("X", "{broken"),
     ("URL", "http://host:8080/path"), ("ODD", "http://[broken")],
)  # fmt: skip
def test_what_is_no_secret_stays_readable(name: str, value: str):
    assert Secrets.of({name: value}).hide(f"in {value} it failed") == f"in {value} it failed"


@given(secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=SHORTEST), around=st.sampled_from(["", "x "]))
def test_a_secret_is_found_plain_and_as_urls_and_json_write_it(secret: str, around: str):
    secrets = Secrets([secret, secret[:SHORTEST]])
    for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1]):
        assert secret[:SHORTEST] not in secrets.hide(around + form).replace(MASK, "")


def test_the_executor_knows_the_secrets_of_its_environment_and_does_not_print_them():
    settings = ExecutorSettings.from_env({"CRM_TOKEN": "abcdef123"})
    assert settings.secrets.hide("with abcdef123") == f"with {MASK}"
    assert "abcdef123" not in f"{settings!r} {settings.secrets!r} {settings.model_dump_json()}"
